"""Several nodes in one command, on the same addresses: `moorline serve --workers n`.

Theory of operation. `parent` is the process that a person starts. It has what there is once: the private
Redis, the admin address, the ports. It serves no MQTT and is no member of the cluster. It starts n processes
of `child`, each a whole node, hands each its settings on standard input, and hears on its standard output
that it is up, or why it can't be. `worker` is one of these places: a process, and another one whenever that
ends. `crew` is all of them. What the admin address tells is asked of the workers at unix sockets in a private
directory.

The workers listen with SO_REUSEPORT: the kernel spreads connections over them. They end with the parent,
however that ends. Each has a session of its own (the operating system's): Ctrl-C is for the parent.
"""
