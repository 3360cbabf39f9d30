"""`python -m forwhy`, and what `accelerate launch -m forwhy …` starts once per process."""

from forwhy.cli import main

if __name__ == "__main__":
    main()
