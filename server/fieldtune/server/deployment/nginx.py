"""The proxy that devices meet: nginx, which passes on what a device needs and nothing else.

SuperLink answers on one port to devices, to whoever starts runs and registers keys, and to whoever
carries runs out, and knows no accounts. So it listens on loopback alone, and only the calls listed
here pass. They are listed one by one and rebuilt from nginx's normalised path, so no spelling of a
path reaches anything else; registering and unregistering are not among them.
"""

from __future__ import annotations

from pathlib import Path

from fieldtune.server.deployment.folder import Settings

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
"""What a device calls under ``/v1/fleet/`` once its key is registered; flwr 1.41."""

_CONFIGURATION = """\
# Written by 'fieldtune coordinator'; it is written anew at each start.
daemon off;
pid "{path}/flwr/nginx.pid";
error_log "{path}/logs/nginx.log" warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  default_type application/octet-stream;
  # Nothing that passes touches the disk: where root starts nginx, its workers may not write here.
  client_body_temp_path "{path}/flwr/body";
  proxy_temp_path "{path}/flwr/proxy";
  fastcgi_temp_path "{path}/flwr/unused";
  uwsgi_temp_path "{path}/flwr/unused";
  scgi_temp_path "{path}/flwr/unused";
  # A message travels in objects of a few MiB; the largest is one layer's weights.
  client_max_body_size 64m;
  upstream superlink {{
    server {superlink};
    keepalive 16;
  }}
  server {{
    listen {port} ssl;{ipv6}
    ssl_certificate "{path}/server.crt";
    ssl_certificate_key "{path}/server.key";
    ssl_protocols TLSv1.2 TLSv1.3;
    location ~ ^/v1/fleet/({calls})$ {{
      limit_except POST {{ deny all; }}
      proxy_pass https://superlink/v1/fleet/$1;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_ssl_trusted_certificate "{path}/ca.crt";
      proxy_ssl_name localhost;
      proxy_ssl_verify on;
      proxy_connect_timeout 5s;
      proxy_read_timeout 60s;
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
        ipv6=f"\n    listen [::]:{settings.port} ssl;" if ipv6 else "",
        calls="|".join(DEVICE_CALLS),
    )
