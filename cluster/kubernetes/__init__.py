"""What Moorline does with the Kubernetes API, where there is one. It serves without it.

Theory of operation. `environment` says whether this process is in a pod, and how it reaches the API. `api` is
the only importer of the official client: requests in threads of their own, bounded in number and time, their
errors translated (`errors`) and counted. `watching` follows our own pod; `pod` decides, without any I/O, what
is to be published of us there: how much it costs to delete it, and whether it serves; `upkeep` does so.
`lease` is a turn at chores that one process of all has to do.

Whatever the API does, hang, refuse or answer nonsense, costs what it was asked for and nothing else. Nothing
but `environment` and `errors` may be imported where the package `kubernetes` may be missing.
"""
