"""What a run on a cluster has left behind."""


def driver_says(log):
    """What the driver has written so far."""
    return (log / "driver.txt").read_text()


def merged(out):
    """The bytes of all results."""
    return (out / "text").read_bytes() + (out / "ids").read_bytes()


def tell_when_it_began(record_property, out, began):
    """Note how long it took from the call, at time `began`, to the first shard."""
    first = min(path.stat().st_ctime for path in out.glob("split.*"))
    record_property("seconds from call to first shard", round(first - began, 1))
