# lib.sh: to be sourced by the benchmarks.
#
#   bench_start LINES       a private server with these lines of configuration
#                           besides those of all benchmarks, and the extension
#   bench_settings          print what figures depend on
#   sql QUERY               run it, print its rows without ornament
#   timed NAME QUERY        run it, note the seconds and the WAL it took
#   note NAME VALUE         note a value measured otherwise
#   median, least, most NAME   of the values noted
#   await JOB PHASE         until the job has reached it; fail if it fails
#   watch_workers, watched  see watch.sh
#
# What is noted is kept in a file for each name below $notes, a line a round;
# that is $BENCH_NOTES if it is set, a directory, for plot to read.
# Competitors of a benchmark take turns in every round, so that what else
# the machine does is spread over all.

set -eu
set -o pipefail

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$bench/../env/private.sh"

bench_start() {
	private_setup
	private_build with_llvm=no
	# Checkpoints come between the measurements only, when asked for.
	private_start "shared_buffers = 1GB" "max_wal_size = 32GB" "checkpoint_timeout = 1h" \
		"maintenance_work_mem = 256MB" "max_locks_per_transaction = 1024" \
		"wal_compression = off" "jit = off" "track_io_timing = off" "$@"
	notes=${BENCH_NOTES:-$work/notes}
	mkdir -p "$notes"
	sql "CREATE EXTENSION partshift"
}

sql() { as_user psql -qXAt -F ' ' -v ON_ERROR_STOP=1 -c "$1"; }

bench_settings() {
	echo
	sql "SELECT version()"
	echo "$(nproc) processors, $(awk '/MemTotal/ { printf "%d", $2 / 1048576 }' /proc/meminfo) GB of memory, load average $(cut -d' ' -f1 /proc/loadavg) at the start"
	sql "SELECT string_agg(name || ' = ' || current_setting(name), ', ')
		FROM unnest('{shared_buffers,maintenance_work_mem,max_wal_size,wal_level,fsync,
			synchronous_commit,full_page_writes,autovacuum,max_parallel_maintenance_workers}'::text[]) AS name"
	echo
}

note() { echo "$2" >>"$notes/$1"; }

seconds() { date +%s.%N; }
wal() { sql "SELECT pg_current_wal_insert_lsn() - '0/0'"; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4f", a - b }'; }

timed() {
	local start wal_before end
	wal_before=$(wal)
	start=$(seconds)
	sql "$2" >/dev/null
	end=$(seconds)
	note "$1" "$(minus "$end" "$start")"
	note "$1.wal" "$(minus "$(wal)" "$wal_before")"
}

ordered() { sort -g "$notes/$1" | awk -v which="$2" '{ v[NR] = $1 }
	END { print which == "least" ? v[1] : which == "most" ? v[NR] : v[int((NR + 1) / 2)] }'; }
median() { ordered "$1" median; }
least() { ordered "$1" least; }
most() { ordered "$1" most; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# "median (least - most)", with so many digits after the point
spread() {
	printf "%.$2f (%.$2f - %.$2f)" "$(median "$1")" "$(least "$1")" "$(most "$1")"
}

await() {
	local phases="prepare copy index mirror reconcile rewire verify ready swap done"
	sql "DO \$\$
		DECLARE
			j record;
			phases text[] := string_to_array('$phases', ' ');
		BEGIN
			LOOP
				SELECT phase, status, error_message INTO j FROM partshift.job WHERE job_id = $1;
				IF j.status = 'failed' THEN
					RAISE EXCEPTION 'job % failed: %', $1, j.error_message;
				END IF;
				EXIT WHEN array_position(phases, j.phase) >= array_position(phases, '$2');
				PERFORM pg_sleep(0.02);
				COMMIT;
			END LOOP;
		END \$\$"
}
