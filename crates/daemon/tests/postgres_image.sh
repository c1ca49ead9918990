#!/bin/sh
# Makes an image from this machine's own Postgres that supports the variables of the official image (POSTGRES_USER,
# POSTGRES_PASSWORD, PGDATA), since tests cannot reach a registry.
#
# usage: postgres_image.sh TAG
set -eu
tag=$1
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
version=$(basename "$(dirname "$bin")")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/usr/share/zoneinfo"
chmod 1777 "$root/tmp"

with_libraries() {
    cp --parents "$1" "$root"
    ldd "$1" | grep -o '/[^ ]*' | sort -u | while read -r library; do
        cp --parents --dereference "$library" "$root"
    done
}
cp -r --parents "/usr/lib/postgresql/$version/lib" "/usr/share/postgresql/$version" "$root"
rm -rf "$root/usr/lib/postgresql/$version/lib/bitcode"
for program in postgres initdb pg_isready; do with_libraries "$bin/$program"; done
# Not the one that is built into the shell.
with_libraries /usr/bin/setpriv
cp /usr/share/zoneinfo/UTC "$root/usr/share/zoneinfo/"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh id mkdir chown echo; do ln -s busybox "$root/bin/$name"; done
printf 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n' >"$root/etc/passwd"
cat >"$root/entrypoint" <<'END'
#!/bin/sh
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R 999:999 "$PGDATA"
    exec /usr/bin/setpriv --reuid=999 --regid=999 --clear-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/tmp/password --locale=C --encoding=UTF8
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c "listen_addresses=*" -c unix_socket_directories=/tmp
END
chmod 755 "$root/entrypoint" "$root"
tar -C "$root" -c . | docker import --change 'ENTRYPOINT ["/entrypoint"]' \
    --change "ENV PATH=$bin:/bin:/usr/bin:/sbin:/usr/sbin" - "$tag" >/dev/null
