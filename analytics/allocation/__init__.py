"""How a GPU-hour is split over the requests that ran in it: exact arithmetic, weights by method, idle policies."""
