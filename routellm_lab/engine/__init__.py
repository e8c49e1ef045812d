"""Where work runs: on this machine, or on Ray where one machine is not enough. Nothing is scheduled by this package.

================  ===================================================================================
local             this machine (the default)
ray               the Ray cluster that this machine is part of; where there is none, one on this machine
ray://HOST:PORT   a Ray cluster elsewhere, through its client server (port 10001 by default)
================  ===================================================================================

Inside of ``with engine("ray")`` every ``joblib.Parallel`` of the process runs on the cluster: that of `parallel`, which
ablations, learning curves, adaptation and validation use, and anybody's own. What runs notebooks sends them there
whole: a notebook is one process on one host, and what it computes stays in it. Each host has the same Python
environment, and sees whatever files are named under the same path.
"""

from routellm_lab.engine.cluster import check_engine
from routellm_lab.engine.encoding import VECTOR
from routellm_lab.engine.place import Engine, engine, parallel
from routellm_lab.engine.processes import STOP_SECONDS, RayProcess, end
