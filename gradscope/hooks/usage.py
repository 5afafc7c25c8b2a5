"""How a step used gradients, before all that was measured of them has arrived."""

from dataclasses import dataclass, replace

from gradscope.hooks.transfer import Ticket


@dataclass(frozen=True, slots=True)
class Usage:
    """How one step used gradients, with the measurements that will confirm or refute it.

    `reused` holds when a norm in `left` is not zero. `cleared` is certain; `perhaps_cleared` holds when the
    norms in `applied` are all zero while those in `incoming` are not. `checked` tells non-finite gradients;
    `skipped` is not zero when a loss scaler told a fused optimizer to move nothing. `repeated` were used by the
    optimizer's last step already, `shared` by another optimizer, and no backward has added to them since.
    `before` and `after` measure gradients of `changed`, which were changed when a step had used them.
    """

    reused: tuple[str, ...] = ()
    left: tuple[Ticket, ...] = ()
    cleared: tuple[str, ...] = ()
    perhaps_cleared: tuple[str, ...] = ()
    applied: tuple[Ticket, ...] = ()
    incoming: tuple[Ticket, ...] = ()
    checked: tuple[Ticket, ...] = ()
    skipped: tuple[Ticket, ...] = ()
    repeated: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    before: tuple[Ticket, ...] = ()
    after: tuple[Ticket, ...] = ()

    def joined(self, earlier: "Usage") -> "Usage":
        """What was known before the step, too."""
        if earlier == NOTHING:
            return self
        return replace(
            self,
            cleared=earlier.cleared,
            perhaps_cleared=earlier.perhaps_cleared,
            applied=earlier.applied,
            incoming=earlier.incoming,
        )


NOTHING = Usage()
