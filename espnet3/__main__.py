"""``python -m espnet3`` is the ``espnet3`` program."""

from espnet3.commands.main import main

if __name__ == "__main__":
    main(prog_name="espnet3")
