"""`python -m taskloom`, as `torchrun -m taskloom` calls it."""

from taskloom.cli import main

if __name__ == "__main__":
    main()
