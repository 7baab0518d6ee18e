"""What devices claim of objects that they have not sent gives way to what the coordinator sends.

SuperLink keeps the objects of all messages by their SHA-256. A reply begins with the ids of its
objects, each with those of its children, and SuperLink believes these before it has the objects.
Some ids can be foreseen: that of a question without content, or of a model that is sent again. A
device that claims other children for one would have SuperLink refuse the coordinator's message with
that object, and so end the run, again and again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import column, delete, or_, select, table, update

from fieldtune.server.deployment.superlink_handlers import ObjectTree, iterate_object_tree

_OBJECTS = table("objects", column("object_id"), column("ref_count"))
_CHILDREN = table("object_children", column("parent_id"), column("child_id"))


def forget_false_claims(state: Any, trees: Iterable[ObjectTree]) -> None:
    """Forget objects of these trees that are registered with other children.

    Args:
        state: SuperLink's, in a transaction.
        trees: of the coordinator's messages, which is believed.
    """
    true = {
        each.object_id: {child.object_id for child in each.children}
        for tree in trees
        for each in iterate_object_tree(tree)
    }
    with state.object_store.session() as session:
        known = session.scalars(
            select(_OBJECTS.c.object_id).where(_OBJECTS.c.object_id.in_(true))
        ).all()
        claimed: dict[str, set[str]] = defaultdict(set)
        for parent, child in session.execute(
            select(_CHILDREN).where(_CHILDREN.c.parent_id.in_(known))
        ):
            claimed[parent].add(child)
        for each in known:
            if claimed[each] == true[each]:
                continue
            session.execute(
                update(_OBJECTS)
                .where(_OBJECTS.c.object_id.in_(claimed[each]), _OBJECTS.c.ref_count > 0)
                .values(ref_count=_OBJECTS.c.ref_count - 1)
            )
            session.execute(
                delete(_CHILDREN).where(
                    or_(_CHILDREN.c.parent_id == each, _CHILDREN.c.child_id == each)
                )
            )
            session.execute(delete(_OBJECTS).where(_OBJECTS.c.object_id == each))
