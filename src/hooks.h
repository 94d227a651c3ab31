/*-------------------------------------------------------------------------
 *
 * hooks.h
 *	  Being called by the server for what fires no event trigger.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_HOOKS_H
#define PARTSHIFT_HOOKS_H

extern void psh_hooks_install(void);

#endif							/* PARTSHIFT_HOOKS_H */
