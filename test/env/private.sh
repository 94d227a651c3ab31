# private.sh: to be sourced.  Gives a script a server of its own.
#
#   private_setup         what is missing is installed, the sources and the
#                         server's files are copied
#   private_build ARGS    build and install there; ARGS go to make
#   private_start LINES   initdb, then start with these lines of configuration
#   as_user COMMAND       run in the copy of the sources, as a client of it
#   run_env=(NAME=VALUE)  what else is in its environment
#
# Everything is below one temporary directory, $work, which goes when the
# script ends, however it ends.  The copied installation finds its libraries
# and extensions relative to its own place, so nothing is ever installed into
# the packaged server, and an existing server is neither looked at nor used.
# PostgreSQL refuses to run as root: then all of it belongs to the packages'
# user "postgres".

run_env=()

private_setup() {
	local source pg_config dir file
	source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	pg_config=$("$source/test/env/packages")
	bin=$("$pg_config" --bindir)

	run_as=()
	if [ "$(id -u)" = 0 ]; then
		id postgres >/dev/null
		run_as=(runuser -u postgres --)
	fi
	dir=${TMPDIR:-/tmp}
	"${run_as[@]}" test -w "$dir" || dir=/tmp
	work=$(mktemp -d "$dir/partshift.XXXXXX")
	trap private_finish EXIT
	trap 'exit 130' INT TERM HUP

	mkdir "$work/src" "$work/log" "$work/socket" "$work/tmp"
	tar -C "$source" --exclude=./.git --exclude='*.o' --exclude='*.bc' \
		--exclude='*.so' --exclude=./tmp_check --exclude=./results \
		-cf - . | tar -C "$work/src" -xf -

	for dir in bindir pkglibdir sharedir; do
		dir=$("$pg_config" --$dir)
		mkdir -p "$work/root$dir"
		cp -a "$dir/." "$work/root$dir"
	done
	dir=$("$pg_config" --includedir)
	mkdir -p "$work/root$(dirname "$dir")"
	ln -s "$dir" "$work/root$dir"

	# Both are plain SQL: the packaged ones do for a server built by hand.
	dir=$work/root$("$pg_config" --sharedir)/extension
	for file in /usr/share/postgresql/*/extension/{pgtap,pg_partman}*; do
		[ -e "$dir/${file##*/}" ] || [ ! -e "$file" ] || cp "$file" "$dir"
	done

	bin=$work/root$bin
	[ ${#run_as[@]} = 0 ] || chown -R postgres: "$work"
	port=$((50000 + RANDOM % 10000))
	echo "$("$bin/postgres" --version), below $work"
}

as_user() {
	(
		cd "$work/src"
		exec "${run_as[@]}" env -i HOME="$work" PATH="$bin:$PATH" \
			LANG=C.UTF-8 TMPDIR="$work/tmp" \
			PGHOST="$work/socket" PGPORT="$port" PGUSER=postgres \
			PGDATABASE=postgres PGTZ=UTC "${run_env[@]}" "$@"
	)
}

private_build() {
	as_user make -s -j"$(nproc)" PG_CONFIG="$bin/pg_config" "$@" all &&
		as_user make -s PG_CONFIG="$bin/pg_config" "$@" install >"$work/log/install.log"
}

private_start() {
	local line
	as_user initdb -D "$work/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
		>"$work/log/initdb.log"
	for line in "listen_addresses = ''" "port = $port" \
		"unix_socket_directories = '$work/socket'" \
		"shared_buffers = 128MB" "max_worker_processes = 32" \
		"max_prepared_transactions = 20" "max_wal_size = 4GB" \
		"log_line_prefix = '%m [%p] %a '" "timezone = UTC" "$@"; do
		echo "$line"
	done >>"$work/data/postgresql.conf"
	as_user pg_ctl -D "$work/data" -l "$work/log/server.log" -w start \
		>"$work/log/start.log"
}

# Stop the server, and those that a test which was cut short has left.
private_finish() {
	local status=$? pid_file
	trap - EXIT INT TERM HUP
	find "$work" -name postmaster.pid | while read -r pid_file; do
		as_user pg_ctl -D "$(dirname "$pid_file")" -m immediate -w stop \
			>/dev/null 2>&1 </dev/null || true
	done
	rm -rf "$work"
	exit "$status"
}
