"""What is known of a device's messages without a look at the database."""

from __future__ import annotations

from fieldtune.server.deployment.mailbox import NOTHING_TAKEN, Mailbox


def take(mailbox: Mailbox, *, found: bool) -> bool:
    """Take a message, or find none; whether there may be another."""
    mailbox.taken(b"1", [b"answer"], found, mailbox.changes)
    return mailbox.news.is_set()


def test_until_none_is_found_there_may_be_messages_from_before() -> None:
    mailbox = Mailbox()
    assert take(mailbox, found=True)
    mailbox.add()
    assert take(mailbox, found=True)
    assert not take(mailbox, found=False)
    assert mailbox.latest == NOTHING_TAKEN


def test_messages_that_are_known_are_counted() -> None:
    mailbox = Mailbox()
    take(mailbox, found=False)
    mailbox.add()
    mailbox.add()
    assert take(mailbox, found=True)
    assert not take(mailbox, found=True)
    assert mailbox.latest == (b"1", [b"answer"])


def test_of_messages_in_flowers_calls_the_number_is_not_known() -> None:
    mailbox = Mailbox()
    take(mailbox, found=False)
    mailbox.add_unknown()
    assert take(mailbox, found=True)
    assert not take(mailbox, found=False)


def test_a_message_that_comes_in_while_none_is_found_is_not_missed() -> None:
    mailbox = Mailbox()
    before = mailbox.changes
    mailbox.add()
    mailbox.taken(b"1", [], False, before)
    assert mailbox.news.is_set()
