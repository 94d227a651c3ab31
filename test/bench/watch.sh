# watch.sh: to be sourced; looks at the workers of a conversion while it runs.
#
#   watch_workers           begin, in the background
#   watched NAME            end, and note NAME.memory, the largest anonymous
#                           memory of one worker in MB, and NAME.held, the
#                           longest that a worker held back the horizon, in s

# A line for each worker: the age of its snapshot, its memory in MB.
look_at_workers() {
	sql "SELECT pid, coalesce(extract(epoch FROM clock_timestamp() - xact_start)
				* (backend_xmin IS NOT NULL)::integer, 0)
		FROM pg_stat_activity WHERE backend_type = 'partshift worker'" |
		while read -r pid held; do
			echo "$held $(awk '/^RssAnon/ { print $2 / 1024 }' "/proc/$pid/status" 2>/dev/null || echo 0)"
		done
}

watch_workers() {
	while sleep 0.4; do look_at_workers; done >"$work/tmp/watch" 2>/dev/null &
	watch=$!
}

watched() {
	kill "$watch" 2>/dev/null || true
	wait "$watch" 2>/dev/null || true
	note "$1.held" "$(awk '$1 > m { m = $1 } END { print m + 0 }' "$work/tmp/watch")"
	note "$1.memory" "$(awk '$2 > m { m = $2 } END { print m + 0 }' "$work/tmp/watch")"
}
