#!/bin/sh
# ufw rules for a machine that runs Station (Debian, Ubuntu). Run as root: sh ufw.sh
#
#   ADMIN    who may reach this machine's own SSH, port 22     (anyone by default)
#   INSIDE   who may reach the MCP gateway, port 3000          (10.0.0.0/8 by default)
#
# ufw does not see ports that Docker publishes: use docker-user.sh for those.
set -eu

ADMIN=${ADMIN:-any}
INSIDE=${INSIDE:-10.0.0.0/8}

ufw default deny incoming
ufw default allow outgoing

# First of all, or enabling the firewall ends the session that it was enabled from.
ufw limit proto tcp from "$ADMIN" to any port 22 comment "this machine's SSH"

ufw allow proto tcp from any to any port 443 comment "HTTPS, by the proxy"
ufw allow proto tcp from any to any port 8080 comment "Station: web and API"
ufw allow proto tcp from any to any port 2222 comment "Station: SSH"
ufw allow proto tcp from "$INSIDE" to any port 3000 comment "Station: MCP, from inside"

ufw --force enable
ufw status verbose
