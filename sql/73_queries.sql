/*
 * What partitioning does to a query.
 */
CREATE FUNCTION partshift.pruning(query text)
RETURNS TABLE (relation regclass, partitions integer, scanned integer,
			   fewer_at_run boolean)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_pruning';

COMMENT ON FUNCTION partshift.pruning(text) IS
'how many partitions a query looks into; the query is planned as the caller, and not run';

CREATE FUNCTION partshift.compare(job integer, query text, runs integer DEFAULT 3)
RETURNS TABLE (side text, relation regclass, partitions integer, scanned integer,
			   rows bigint, plan_ms double precision, run_ms double precision,
			   blocks_hit bigint, blocks_read bigint, temp_blocks bigint)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_compare';

COMMENT ON FUNCTION partshift.compare(integer, text, integer) IS
'runs a query, read only and in one snapshot, with the old and with the new table of a job';
