"""``python -m routellm_lab`` is ``routellm-lab``."""

from routellm_lab.cli import main

if __name__ == "__main__":
    main()
