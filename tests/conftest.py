"""What all tests share: no network, no window, one thread per process, one cache of encodings, the small sets."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["ROUTELLM_LAB_PROGRESS"] = "false"
os.environ.setdefault("ROUTELLM_LAB_DEVICE", "cpu")  # figures are compared to more digits than a GPU keeps
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # tests run side by side

# how busy the machine is must not decide whether a test passes, nor must luck
hypothesis_settings.register_profile(
    "here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("here")


def _real_folder() -> Path:
    for variable in ("ROUTELLM_LAB_REAL_DATA", "ROUTELLM_LAB_DATA"):
        told = os.environ.get(variable, "")
        if told not in ("", "sample", "hub"):
            return Path(told)
    return Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_folder():
    """The folder of real data; tests that ask for it are skipped by name where there is none."""
    folder = _real_folder()
    if not (folder / "outcomes").is_dir():
        pytest.skip(f"real data: no {folder / 'outcomes'} (set ROUTELLM_LAB_REAL_DATA to a folder of real data)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """One cache for all tests and all workers of a session: the static encoder is distilled once."""
    from routellm_lab.settings import settings

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    os.environ.setdefault("ROUTELLM_LAB_CACHE", str(base / "cache"))
    settings.cache_clear()
    return Path(os.environ["ROUTELLM_LAB_CACHE"])


@pytest.fixture(scope="session")
def static_encoder(shared_cache):
    """The default encoder; a lock keeps two workers from distilling it twice."""
    from filelock import FileLock

    from routellm_lab.encoders import make_encoder

    shared_cache.mkdir(parents=True, exist_ok=True)
    encoder = make_encoder("static")
    with FileLock(shared_cache / "static.lock"):
        encoder.transform(["one text"])
    return encoder


@pytest.fixture(scope="session")
def arena():
    """2,000 simulated votes of people."""
    from routellm_lab import load_battles

    return load_battles("arena_human", data="sample", size=2_000)


@pytest.fixture(scope="session")
def mmlu():
    """The simulated benchmark, whole."""
    from routellm_lab import load_outcomes

    return load_outcomes("mmlu", data="sample")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window; tests that ask for it are skipped by name where it is not installed."""
    paths = [shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")]
    paths.append(shutil.which("chromedriver"))
    if None in paths:
        pytest.skip(
            "pages in a browser: no chromium and chromedriver on the PATH (apt-get install chromium chromium-driver)"
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (
        "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-dev-shm-usage"
    ).split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    driver.set_page_load_timeout(20)
    yield driver
    driver.quit()
