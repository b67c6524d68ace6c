#!/bin/sh
# Makes what is missing in ./secrets (or in the folder given). What is there is kept: run it twice,
# and nothing changes. The containers read these files under accounts of their own, so the files
# are readable and the folder is closed. Keep a copy of encryption_key apart from the database's
# backups: without it, no secret stored in Station can be read again.
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"

have() { [ -s "$folder/$1" ]; }

write() {
    printf '%s\n' "$2" >"$folder/.$1.new"
    chmod 0444 "$folder/.$1.new"
    mv -f "$folder/.$1.new" "$folder/$1"
    echo "made $folder/$1"
}

# Hexadecimal, so that it needs no quoting in a URL.
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

have encryption_key || write encryption_key "$(random)"
have db_password || write db_password "$(random)"
have database_url ||
    write database_url "postgresql://station:$(cat "$folder/db_password")@db:5432/station"
have valkey_conf || write valkey_conf "requirepass $(random)"
have redis_url ||
    write redis_url "redis://:$(sed -n 's/^requirepass //p' "$folder/valkey_conf")@valkey:6379/0"
