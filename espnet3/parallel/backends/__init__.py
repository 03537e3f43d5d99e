"""How a Dask cluster is made for each `parallel.env`."""
