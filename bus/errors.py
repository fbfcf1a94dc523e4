"""The errors of fleetlog: one tree.

    FleetlogError
    ├── ConfigError             a setting, a stream or a permission is not what it must be
    ├── Refused                 the rules said no; nothing was written
    │   ├── TaskNotFound
    │   ├── AlreadySettled
    │   ├── KeyTaken
    │   ├── HandlerUnknown
    │   ├── BoundUnknown
    │   ├── LogFull
    │   ├── ScheduleNotFound
    │   ├── ScheduleExists
    │   └── LeaseLost
    ├── ConflictError           someone else wrote first; refold and decide again
    ├── TransportError          the log could not be reached or did not answer
    │   ├── Unavailable         nothing was written
    │   │   └── LogBrimful      the log takes no event at all
    │   ├── PublishUnknown      it may have been written
    │   ├── LogRewound          what was read of the log is not in it any more
    │   └── StreamMissing       the fleet's streams are not there
    ├── ObjectLost              what an event names in the object store is missing or damaged
    └── ProjectionError         the projection could not be read or built
        └── ProjectionDamaged   its file is damaged

What a person or another program gave us and is malformed is `fleetlog.schemas.errors.InvalidInput`.
Every message says what to do next.
"""


class FleetlogError(Exception):
    """Anything that fleetlog itself raises."""


class ConfigError(FleetlogError):
    """A setting, stream or permission is wrong; nothing was written, a retry changes nothing."""


class Refused(FleetlogError):
    """The rules said no; nothing was written, a retry changes nothing."""


class TaskNotFound(Refused):
    """No task has this id."""


class AlreadySettled(Refused):
    """The task has its outcome; nothing can change it any more."""


class KeyTaken(Refused):
    """The id or key belongs to a task with another payload."""


class HandlerUnknown(Refused):
    """No agent of the fleet ever had a handler of this name; an agent that starts with it changes that."""


class BoundUnknown(Refused):
    """Nobody has set a limit or budget that a task names; setting it changes that."""


class LogFull(Refused):
    """The log is near its size limit, or its disk is, and takes no new tasks; more room changes that."""


class ScheduleNotFound(Refused):
    """No schedule has this name now."""


class ScheduleExists(Refused):
    """A schedule of this name is there, with another rule or another task."""


class LeaseLost(Refused):
    """The live claim is another one; the result at hand was not recorded."""


class ConflictError(FleetlogError):
    """An append met a later event on its guard; nothing was written. Refold and decide again."""


class TransportError(FleetlogError):
    """The log could not be reached or did not answer."""


class Unavailable(TransportError):
    """No connection; nothing was written by this call. A retry is safe."""


class LogBrimful(Unavailable):
    """The log has reached its size limit and takes no event at all; more room changes that."""


class PublishUnknown(TransportError):
    """No answer came: the effect may have happened. Submitting again with the same key or id is safe."""


class LogRewound(TransportError):
    """The log does not hold what was read of it: its server came back without its last second. Read it anew."""


class StreamMissing(TransportError):
    """The fleet's streams do not exist on this server; nothing was written."""


class ObjectLost(FleetlogError):
    """What an event names in the object store is missing or damaged; a retry changes nothing."""


class ProjectionError(FleetlogError):
    """The projection could not be read or built; the log is untouched."""


class ProjectionDamaged(ProjectionError):
    """What the projection's file holds is not what was written; the projector builds it anew from the log."""
