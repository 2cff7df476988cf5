"""`moorline doctor`: looks at everything that a node will need, before it starts or while it runs, and says
what to change. It changes nothing itself, and shows no secret.

`command` asks the others, of which each knows one part of the world: `server` Redis, `machine` the kernel and
this program, `place` addresses and directories, `file` certificates and secrets, `pod` Kubernetes.
"""
