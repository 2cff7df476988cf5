"""What holds up a client, who gets a topic, where a message is: for the person on call.

`gathering` asks Redis and nodes, `verdict` decides what is said (pure), `shown` puts it into JSON."""

from broker.admin.explain.routes import explain_routes

__all__ = ["explain_routes"]
