"""The ``espnet3`` program; each of its commands is a module here, loaded when it is asked for."""
