/*
 * Rights to what an operator watches with.  The views show nobody another's
 * jobs.
 */
GRANT SELECT ON partshift.events, partshift.counters, partshift.metrics,
	partshift.partition_metrics, partshift.range_metrics TO PUBLIC;
GRANT EXECUTE ON FUNCTION partshift.pruning(text),
	partshift.compare(integer, text, integer) TO PUBLIC;

/* Called in queries that run as the owner of a table. */
GRANT EXECUTE ON FUNCTION partshift.hash_remainder(integer, VARIADIC "any") TO PUBLIC;
