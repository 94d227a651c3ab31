/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  What a user's command makes, alters or is going to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_DDL_H
#define PARTSHIFT_DDL_H

/* Objects, as two arrays of the same length. */
typedef struct PshTouched
{
	int			n;
	int			size;
	Datum	   *classes;
	Datum	   *objects;
} PshTouched;

extern void psh_ddl_read_done(PshTouched *touched);
extern void psh_ddl_read_concurrent(PshTouched *touched);
extern bool psh_ddl_drops_extension(void);

#endif							/* PARTSHIFT_DDL_H */
