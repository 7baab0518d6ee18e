"""A coordinator's folder: keys for its owner's eyes, names that can be used, numbers that last."""

from __future__ import annotations

import datetime
import json
import re
import socket
import ssl
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.node.tls import show_certificate
from fieldtune.profiles.common.errors import DeploymentError, StorageError
from fieldtune.server.deployment.certificates import Pair, expires, make_authority, make_server
from fieldtune.server.deployment.cli import app
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.nginx import nginx_configuration
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.deployment.supervisor import serve
from fieldtune.server.federation.refusals import Refused
from fieldtune.simulations import cli

SETTINGS = Settings(hosts=("coordinator.local",), port=8443, superlink_port=18443)


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "fleet", SETTINGS)


def shake_hands(server: Pair, trusted: str, name: str) -> None:
    """A TLS handshake on a socket pair; ssl.SSLError where the client does not believe."""
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(server.private_key + server.certificate)
        file.flush()
        context.load_cert_chain(file.name)

    def answer() -> None:
        try:
            with context.wrap_socket(theirs, server_side=True) as secured:
                secured.recv(1)
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client = ssl.create_default_context(cadata=trusted)
        with client.wrap_socket(ours, server_hostname=name) as secured:
            secured.send(b"x")
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", ["coordinator.local", "192.168.1.7", "fd00::7"])
def test_a_device_believes_its_own_coordinator_under_each_of_its_names(name: str) -> None:
    authority = make_authority("ours")
    server = make_server(authority, ["coordinator.local", "192.168.1.7", "fd00::7"])
    shake_hands(server, authority.certificate, name)


def test_a_device_believes_no_other_coordinator() -> None:
    stranger = make_server(make_authority("ours"), ["coordinator.local"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger, make_authority("ours").certificate, "coordinator.local")


def test_a_device_believes_no_expired_certificate_and_no_other_name() -> None:
    authority = make_authority("ours")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(make_server(authority, ["a.local"], days=-1), authority.certificate, "a.local")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname"):
        shake_hands(make_server(authority, ["a.local"]), authority.certificate, "b.local")


def test_all_files_are_for_their_owner_alone(folder: CoordinatorFolder) -> None:
    folder.enroll("kitchen")[1].write(folder.bundle_file("kitchen"))
    for path in [folder.path, *folder.path.rglob("*")]:
        if not path.name.endswith(".lock"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_bundle_holds_what_the_device_needs_and_its_only_private_key(
    folder: CoordinatorFolder,
) -> None:
    device, bundle = folder.enroll("kitchen")
    bundle.write(folder.bundle_file("kitchen"))
    read = Bundle.read(folder.bundle_file("kitchen"))
    assert (read.name, read.address) == ("kitchen", "coordinator.local:8443")
    assert read.ca_certificate == folder.ca_certificate
    assert read.public_key == device.public_key
    folder.bundle_file("kitchen").unlink()
    secret = bundle.private_key.splitlines()[3]
    assert not [f for f in folder.path.rglob("*") if f.is_file() and secret in f.read_text()]


def test_a_device_keeps_its_number_when_others_come_and_go(folder: CoordinatorFolder) -> None:
    for name in ("a", "b", "c"):
        folder.enroll(name)
    folder.remove("a")
    folder.enroll("d")
    assert [(d.name, d.number) for d in folder.devices()] == [("b", 1), ("c", 2), ("d", 3)]
    folder.remove("d")
    folder.enroll("d")
    assert folder.devices()[-1].number == 4


def test_a_number_is_not_used_again_in_a_folder_of_an_earlier_version(
    folder: CoordinatorFolder,
) -> None:
    for name in ("a", "b"):
        folder.enroll(name)
    (folder.path / "next-number").unlink()
    folder.remove("b")
    folder.enroll("c")
    assert [(d.name, d.number) for d in folder.devices()] == [("a", 0), ("c", 2)]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 64, "é", "a.b"])
def test_a_name_that_cannot_be_a_file_or_a_service_is_refused(
    folder: CoordinatorFolder, name: str
) -> None:
    with pytest.raises(DeploymentError, match="is not a valid device name"):
        folder.enroll(name)


def test_a_name_is_given_once(folder: CoordinatorFolder) -> None:
    folder.enroll("kitchen")
    with pytest.raises(DeploymentError, match="enrolled already"):
        folder.enroll("kitchen")


def test_a_device_whose_bundle_could_not_be_written_is_not_enrolled(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    done = CliRunner().invoke(app, ["enroll", str(folder.path), "kitchen", "--out", str(taken)])
    assert isinstance(done.exception, StorageError)
    assert folder.devices() == []


def test_a_device_that_sits_out_is_shown_and_let_in_again(folder: CoordinatorFolder) -> None:
    for name in ("attic", "kitchen"):
        folder.enroll(name)
    folder.keep_refused("attic", Refused(5, {"train": 3}, "it reports steps = 9"))
    folder.keep_refused("kitchen", Refused(1, {"train": 1}, "its counts do not add up"))
    command = ["coordinator", "devices", str(folder.path)]
    shown = CliRunner().invoke(cli.app, command).stdout
    assert "attic: it takes no part after 5 refused reports: it reports steps = 9" in shown
    assert "kitchen: 1 report was refused, the latest: its counts do not add up" in shown
    told = json.loads(CliRunner().invoke(cli.app, [*command, "--format", "json"]).stdout)
    assert [(row["device"], row["takes_part"], row["refused_reports"]) for row in told] == [
        ("attic", False, 5), ("kitchen", True, 1),
    ]  # fmt: skip
    for said in ("takes part again", "nothing is changed"):
        assert said in CliRunner().invoke(app, ["readmit", str(folder.path), "attic"]).stdout
    assert folder.refused()["attic"] == Refused(5, {}, "it reports steps = 9")
    with pytest.raises(DeploymentError, match="no device 'cellar'; enrolled are: attic, kitchen"):
        folder.readmit("cellar")
    (folder.path / "refused.json").write_text("damaged")
    assert folder.refused() == {}


def test_a_device_that_is_unknown_cannot_be_removed(folder: CoordinatorFolder) -> None:
    folder.enroll("kitchen")
    with pytest.raises(DeploymentError, match="'garage'; enrolled are: kitchen"):
        folder.remove("garage")


@pytest.mark.parametrize("host", ["a b", "x;y", 'x"', "{", "../x", "a\nb", "-x", "http://x"])
def test_a_host_that_would_mean_something_in_a_configuration_file_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an address"):
        Settings(hosts=(host,))


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        (["a b"], "^--host 'a b' is neither a host name nor an address$"),
        ([f"h{n}" for n in range(17)], "^--host = .*: tuple should have at most 16 items"),
    ],
)
def test_a_host_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, hosts: list[str], sentence: str
) -> None:
    given = [part for host in hosts for part in ("--host", host)]
    done = CliRunner().invoke(app, ["init", str(tmp_path / "fleet"), *given])
    assert isinstance(done.exception, DeploymentError)
    assert re.match(sentence, str(done.exception))


def test_a_coordinator_is_made_once(folder: CoordinatorFolder) -> None:
    with pytest.raises(DeploymentError, match="coordinator's folder already"):
        CoordinatorFolder.create(folder.path, SETTINGS)


def test_a_folder_that_is_none_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="fieldtune coordinator init"):
        CoordinatorFolder(tmp_path)


@pytest.mark.parametrize("text", ["port = 99999", "hosts = []", "x = 1", "port ="])
def test_damaged_settings_are_a_sentence(folder: CoordinatorFolder, text: str) -> None:
    (folder.path / "coordinator.toml").write_text(text)
    with pytest.raises(DeploymentError, match="is damaged"):
        CoordinatorFolder(folder.path)


def test_a_renewed_certificate_is_of_the_same_authority(folder: CoordinatorFolder) -> None:
    before, authority = folder.server_certificate, folder.ca_certificate
    folder.renew()
    assert folder.server_certificate != before
    assert folder.ca_certificate == authority
    assert expires(folder.server_certificate) > datetime.datetime.now(datetime.UTC)


def test_a_coordinator_with_an_expired_certificate_does_not_start_and_says_what_to_do(
    folder: CoordinatorFolder,
) -> None:
    authority = Pair(folder.ca_certificate, (folder.path / "ca.key").read_text())
    folder.write("server.crt", make_server(authority, ["x"], days=-3).certificate)
    with pytest.raises(DeploymentError, match=r"expired 3 days ago: 'fieldtune coordinator renew"):
        serve(folder, notes=print)


def test_a_certificate_that_ends_soon_is_announced(folder: CoordinatorFolder) -> None:
    authority = Pair(folder.ca_certificate, (folder.path / "ca.key").read_text())
    folder.write("server.crt", make_server(authority, ["x"], days=10).certificate)
    notes: list[str] = []
    with folder.being_served(), pytest.raises(DeploymentError, match="running already"):
        serve(folder, notes.append)
    assert notes[0].startswith("The certificate expires in 9 days")


def test_two_studies_do_not_have_the_devices_at_once(folder: CoordinatorFolder) -> None:
    with folder.in_use(), pytest.raises(DeploymentError, match="Another study"), folder.in_use():
        pass
    with folder.in_use():
        pass


def test_a_device_shows_a_certificate_of_its_own_coordinator(folder: CoordinatorFolder) -> None:
    _, bundle = folder.enroll("kitchen")
    assert bundle.certificate is not None
    authority = x509.load_pem_x509_certificate(bundle.ca_certificate.encode())
    certificate = x509.load_pem_x509_certificate(bundle.certificate.encode())
    certificate.verify_directly_issued_by(authority)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    show_certificate(context, bundle.certificate, bundle.private_key)
    _, other = folder.enroll("attic")
    with pytest.raises(ssl.SSLError):
        show_certificate(context, bundle.certificate, other.private_key)


def test_a_renewed_bundle_has_a_new_key_and_the_same_number(folder: CoordinatorFolder) -> None:
    folder.enroll("attic")
    device, bundle = folder.enroll("kitchen")
    again, renewed = folder.renew_device("kitchen")
    assert again.number == device.number
    assert again.certificate
    assert renewed.public_key != bundle.public_key
    assert [each.public_key for each in folder.devices()][1] == renewed.public_key
    with pytest.raises(DeploymentError, match="no device 'cellar'"):
        folder.renew_device("cellar")


def test_a_folder_from_before_there_were_certificates_lets_its_devices_in(
    folder: CoordinatorFolder,
) -> None:
    assert Settings(hosts=("x",)).client_certificates == "optional"
    text = nginx_configuration(folder.path, Settings(hosts=("x",)))
    assert "ssl_verify_client optional;" in text
    required = Settings(hosts=("x",), client_certificates="required")
    assert "ssl_verify_client on;" in nginx_configuration(folder.path, required)


def test_who_waits_for_a_pass_over_the_devices_says_so(folder: CoordinatorFolder) -> None:
    passing, said, notes = threading.Event(), threading.Event(), list[str]()

    def one_pass() -> None:
        with CoordinatorFolder(folder.path).in_use(briefly=True):
            passing.set()
            said.wait()

    def note(sentence: str) -> None:
        notes.append(sentence)
        said.set()  # which ends the pass

    watch = threading.Thread(target=one_pass, daemon=True)
    watch.start()
    passing.wait()
    with folder.in_use(notes=note):
        pass
    watch.join()
    with folder.in_use(notes=note):
        pass
    assert notes == [
        "Waiting for 'fieldtune coordinator watch' or 'devices --watch', which asks the devices now"
    ]
