"""nginx as the proxy that devices connect to: it forwards only the calls that a device needs.

SuperLink serves its APIs for devices, for control (start runs, register keys) and for executing
runs on one port, without user accounts. So it listens on the loopback interface only, and the proxy
forwards an allow list of calls. The forwarded path is built from nginx's normalised one, so no
other spelling of a path reaches anything else; registering keys is not on the list.
"""

from __future__ import annotations

from pathlib import Path

from fieldtune.client.contract.combined_calls import MOST_BYTES, REPLY, TAKE, WAIT
from fieldtune.server.deployment.settings import Settings

DEVICE_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""Calls under ``/v1/fleet/`` of a device whose key is registered."""
COMBINED_CALLS = tuple(path.rpartition("/")[2] for path in (WAIT, TAKE, REPLY))
"""Those under ``/v1/fieldtune/``."""

OF_A_DEVICE = 16
"""Requests of one device that are served at the same time. The light node has two at most (its
work, and its heartbeat), Flower's SuperNode about four."""
OBJECTS_OF_A_DEVICE = 4
"""Objects of up to 6 MiB that one device sends at the same time, and SuperLink has in memory."""
OF_AN_ADDRESS = 512
"""Those of one address: 256 light nodes behind one router are never refused."""

_MESSAGE_BYTES = 128 * 1024
"""A reply's metadata and the ids of its objects."""

_CONFIGURATION = """\
# Written by 'fieldtune coordinator' at each start; changes are overwritten.
daemon off;
pid "{path}/flwr/nginx.pid";
error_log "{path}/logs/nginx.log" warn;
worker_processes 1;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  default_type application/octet-stream;
  # Bodies are not buffered on disk: workers of an nginx started by root may not write here.
  client_body_temp_path "{path}/flwr/body";
  proxy_temp_path "{path}/flwr/proxy";
  fastcgi_temp_path "{path}/flwr/unused";
  uwsgi_temp_path "{path}/flwr/unused";
  scgi_temp_path "{path}/flwr/unused";
  client_max_body_size 256k;
  client_header_timeout 10s;
  client_body_timeout 10s;
  send_timeout 30s;
  reset_timedout_connection on;
  # Counted from the end of a request's headers; a device that is told 429 comes back later.
  limit_conn_zone $binary_remote_addr zone=addresses:8m;
  limit_conn_zone $ssl_client_fingerprint zone=devices:8m;
  limit_conn_zone $ssl_client_fingerprint zone=objects:8m;
  limit_conn addresses {of_an_address};
  limit_conn devices {of_a_device};
  limit_conn_status 429;
  limit_conn_log_level warn;
  upstream superlink {{
    server {superlink};
    keepalive 64;
  }}
  server {{
    listen {port} ssl;{ipv6}
    ssl_certificate "{path}/server.crt";
    ssl_certificate_key "{path}/server.key";
    ssl_protocols TLSv1.2 TLSv1.3;
    # Whoever has no certificate of an enrolled device is answered after the headers of a request.
    ssl_client_certificate "{path}/ca.crt";
    ssl_verify_client {verify};
    ssl_verify_depth 1;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_ssl_trusted_certificate "{path}/ca.crt";
    proxy_ssl_name localhost;
    proxy_ssl_verify on;
    proxy_connect_timeout 5s;
    proxy_read_timeout 60s;
    # A message travels in objects of up to 5 MiB; those of a combined call are small.
    location = /v1/fleet/push-object {{
      limit_except POST {{ deny all; }}
      client_max_body_size 6m;
      limit_conn addresses {of_an_address};
      limit_conn devices {of_a_device};
      limit_conn objects {objects_of_a_device};
      proxy_pass https://superlink;
    }}
    location ~ ^/v1/fleet/({calls})$ {{
      limit_except POST {{ deny all; }}
      proxy_pass https://superlink/v1/fleet/$1;
    }}
    location ~ ^/v1/fieldtune/({combined})$ {{
      limit_except POST {{ deny all; }}
      client_max_body_size {of_a_combined_call};
      proxy_pass https://superlink/v1/fieldtune/$1;
    }}
    location / {{ return 404; }}
  }}
}}
"""


def nginx_configuration(path: Path, settings: Settings, *, ipv6: bool = True) -> str:
    """``nginx.conf`` of a coordinator's folder.

    Args:
        path: the folder, absolute.
        settings: its ports.
        ipv6: whether this machine has IPv6 to listen on too.
    """
    return _CONFIGURATION.format(
        path=path,
        superlink=settings.superlink_address,
        port=settings.port,
        verify="on" if settings.client_certificates == "required" else "optional",
        ipv6=f"\n    listen [::]:{settings.port} ssl;" if ipv6 else "",
        calls="|".join(DEVICE_CALLS),
        combined="|".join(COMBINED_CALLS),
        of_a_combined_call=MOST_BYTES + _MESSAGE_BYTES,
        of_an_address=OF_AN_ADDRESS,
        of_a_device=OF_A_DEVICE,
        objects_of_a_device=OBJECTS_OF_A_DEVICE,
    )
