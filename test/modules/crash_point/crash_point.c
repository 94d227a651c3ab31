/*-------------------------------------------------------------------------
 *
 * crash_point.c
 *	  Send a signal at a chosen commit of partshift's workers.
 *
 * To be preloaded into a server that a test owns.  A file in the data
 * directory says what to do, so it outlives every crash:
 *
 *	  event number signal target role drag
 *
 * event   b: before the commit, a: after it
 * number  of the commit, counted over all processes of that role since the
 *		   test removed the other file, which gets a line for each; 0 only counts
 * signal  its number
 * target  s: the process itself, p: the postmaster
 * role	   l: the leader, h: a helper, e: either
 * drag	   milliseconds for which the other role rests before each commit, so
 *		   that this one gets something to do
 *
 * The file is removed before the signal is sent: it is sent once.
 *
 * Only transactions with an id count, others change nothing.  Commits of the
 * workers are asynchronous; WAL is flushed up to the chosen place first, so
 * that what was committed before it is there after the crash, and the chosen
 * commit is if and only if the event is "a".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/backend_status.h"

#define ORDER_FILE "crash_point.order"
#define COUNT_FILE "crash_point.count"
#define LINE_LENGTH 64

PG_MODULE_MAGIC;

typedef struct Order
{
	char		event;
	int			number;
	int			signal;
	char		target;
	char		role;
	int			drag;
} Order;

void		_PG_init(void);

static bool
read_order(Order *order)
{
	FILE	   *file = fopen(ORDER_FILE, "r");
	int			n;

	if (file == NULL)
		return false;
	n = fscanf(file, "%c %d %d %c %c %d", &order->event, &order->number,
			   &order->signal, &order->target, &order->role, &order->drag);
	fclose(file);
	return n == 6;
}

/* Write a line about this commit; returns how many there are now. */
static int
count_commit(void)
{
	int			fd = open(COUNT_FILE, O_WRONLY | O_CREAT | O_APPEND, 0600);
	char		line[LINE_LENGTH + 1];
	off_t		end;

	if (fd < 0)
		elog(PANIC, "could not open file \"%s\": %m", COUNT_FILE);
	snprintf(line, sizeof(line), "%-*.*s\n", LINE_LENGTH - 1, LINE_LENGTH - 1,
			 MyBEEntry ? MyBEEntry->st_activity_raw : "");
	if (write(fd, line, LINE_LENGTH) != LINE_LENGTH)
		elog(PANIC, "could not write file \"%s\": %m", COUNT_FILE);
	end = lseek(fd, 0, SEEK_CUR);
	close(fd);
	return (int) (end / LINE_LENGTH);
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	char		role;
	Order		order;

	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_COMMIT)
		return;
	if (MyBgworkerEntry == NULL ||
		strcmp(MyBgworkerEntry->bgw_type, "partshift worker") != 0 ||
		!FullTransactionIdIsValid(GetTopFullTransactionIdIfAny()) ||
		!read_order(&order))
		return;
	role = MyBgworkerEntry->bgw_restart_time == BGW_NEVER_RESTART ? 'h' : 'l';
	if (order.role != 'e' && order.role != role)
	{
		if (event == XACT_EVENT_PRE_COMMIT)
			pg_usleep(order.drag * 1000L);
		return;
	}
	if ((order.event == 'b') != (event == XACT_EVENT_PRE_COMMIT) ||
		count_commit() != order.number)
		return;

	XLogFlush(event == XACT_EVENT_PRE_COMMIT ? XactLastRecEnd :
			  XactLastCommitEnd);
	unlink(ORDER_FILE);
	kill(order.target == 'p' ? PostmasterPid : MyProcPid, order.signal);
	CHECK_FOR_INTERRUPTS();
}

void
_PG_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}
