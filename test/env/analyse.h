/*-------------------------------------------------------------------------
 *
 * analyse.h
 *	  What cppcheck must know of the server's macros, instead of reading all
 *	  of its headers in all of their configurations.
 *
 *-------------------------------------------------------------------------
 */
#define PG_FUNCTION_ARGS FunctionCallInfo fcinfo
#define PG_FUNCTION_INFO_V1(f) extern Datum f(PG_FUNCTION_ARGS)
#define Assert(condition) assert(condition)
#define foreach(cell, list) \
	for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))

/* An error does not return. */
#define ERROR 21
#define ereport(level, ...) \
	do { (void) (__VA_ARGS__); if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) \
	do { printf(__VA_ARGS__); if ((level) >= ERROR) abort(); } while (0)
