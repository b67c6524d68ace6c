#!/bin/sh
# Ports that Docker publishes go around ufw and around nftables' input chain: Docker forwards them
# before those are asked. What may reach a container is said in the chain DOCKER-USER, here. Run as
# root after Docker has started, and again after it was restarted: sh docker-user.sh
#
#   OUTSIDE  the interface that strangers come from             (that of the default route)
#   INSIDE   who may reach the MCP gateway, container port 3000 (10.0.0.0/8 by default)
#   OPEN     the container ports anyone may reach               (8080,2222 by default)
#
# The ports are those inside the container: by this time the address is already translated.
set -eu

OUTSIDE=${OUTSIDE:-$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)}
INSIDE=${INSIDE:-10.0.0.0/8}
OPEN=${OPEN:-8080,2222}

if [ -z "$OUTSIDE" ]; then
    echo "docker-user.sh: there is no default route; set OUTSIDE to the outer interface" >&2
    exit 2
fi

# One chain of our own, filled before it is used, so that it can be filled again at any time.
rules() {
    iptables=$1
    "$iptables" --wait -N DOCKER-USER 2>/dev/null || true
    "$iptables" --wait -N STATION-USER 2>/dev/null || "$iptables" --wait -F STATION-USER
    "$iptables" --wait -A STATION-USER -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
    "$iptables" --wait -A STATION-USER -p tcp -m multiport --dports "$OPEN" -j RETURN
    if [ "$iptables" = iptables ]; then
        "$iptables" --wait -A STATION-USER -s "$INSIDE" -p tcp --dport 3000 -j RETURN
    fi
    "$iptables" --wait -A STATION-USER -j DROP
    "$iptables" --wait -C DOCKER-USER -i "$OUTSIDE" -j STATION-USER 2>/dev/null ||
        "$iptables" --wait -I DOCKER-USER -i "$OUTSIDE" -j STATION-USER
}

rules iptables
rules ip6tables
