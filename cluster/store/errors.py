"""Everything that may go wrong with the store. Foreign exceptions become these where they enter, once.

MoorlineError
└── StoreError
    ├── StoreUnavailable      no answer now: unreachable, lost, loading, read-only; may be tried again
    │   ├── LibraryMissing    the server has lost our functions; they are loaded again
    │   ├── SlotMoved         another primary of the Cluster serves this slot now
    │   └── SlotMoving        this slot is on its way to another primary; nothing of the call was done
    ├── RedisFull             refused for lack of memory (maxmemory); nothing of the call was done
    ├── CallFailed            a whole call was refused, and would be again
    ├── ItemError             one request of a call failed; its others were carried out
    ├── NodeGone              this incarnation is declared dead: close all, start as a new one
    └── StoreStartError       also a StartError: a person has to change something
        ├── InvalidRedisUrl
        ├── UnsupportedRedis  too old, or of a kind that is not supported
        ├── AccessDenied      wrong password, or commands that this user may not use
        ├── SchemaTooNew      a newer release has written here
        ├── SchemaTooOld      what an older one has written has to be migrated
        ├── LibraryTooNew     a newer release runs here, whose functions do not serve this one
        ├── DataDirUnusable   the private server's directory can't be created or written
        ├── DataDirInUse      ... or belongs to another node that runs
        ├── ServerNotFound    no valkey-server or redis-server to start
        └── ServerFailed      the private server ended while it started
"""

from broker.errors import MoorlineError, StartError


class StoreError(MoorlineError):
    """Root of this tree."""


class StoreUnavailable(StoreError):
    """Redis gives no answer at this moment. Whether the last request was carried out is unknown."""


class LibraryMissing(StoreUnavailable):
    """The server does not have the function library (any more)."""


class SlotMoved(StoreUnavailable):
    """Another primary of the Redis Cluster serves this slot; the text names it. Nothing was done."""


class SlotMoving(StoreUnavailable):
    """The slot is on its way to another primary of the Redis Cluster: some of its keys are here, some there.
    Nothing was done."""


class RedisFull(StoreError):
    """Redis has reached its maxmemory and refused the call; nothing of it was done."""


class CallFailed(StoreError):
    """Redis refused a whole call, and would refuse it again."""


class ItemError(StoreError):
    """One request failed inside the function library; the text is the library's."""


class NodeGone(StoreError):
    """The cluster has declared this node's incarnation dead; it must not write any more."""


class StoreStartError(StoreError, StartError):
    """A start is not possible with this store; the text says what to change."""


class InvalidRedisUrl(StoreStartError):
    """The URL can't be understood."""


class UnsupportedRedis(StoreStartError):
    """The server is too old, or of a kind that is not supported."""


class AccessDenied(StoreStartError):
    """The server wants other credentials, or its access list forbids what we need."""


class SchemaTooNew(StoreStartError):
    """The keys were written by a newer release than this one."""


class SchemaTooOld(StoreStartError):
    """The keys were written by an older release, and this one can't read them as they are."""


class LibraryTooNew(StoreStartError):
    """The function library is of a newer release, which does not serve nodes as old as this one."""


class DataDirUnusable(StoreStartError):
    """The data directory can't be created, entered or written."""


class DataDirInUse(StoreStartError):
    """Another node that runs uses this data directory."""


class ServerNotFound(StoreStartError):
    """There is no usable valkey-server or redis-server on this machine."""


class ServerFailed(StoreStartError):
    """The private server ended before it was ready; the text has its last words."""
