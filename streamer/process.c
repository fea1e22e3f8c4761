/*
 * process.c
 *		What the process takes of the machine, set as metrics.
 *
 * Read from /proc, as Prometheus's own client libraries do.  Counting the
 * descriptors takes as long as there are many: some milliseconds for 10,000,
 * which is why it is done when somebody asks and not otherwise.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "metrics.h"
#include "process.h"

/* Memory, in pages. */
static void
process_measure_memory(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	int64_t size;
	int64_t resident;

	if (file == NULL)
		return;
	if (fscanf(file, "%" SCNd64 " %" SCNd64, &size, &resident) == 2)
	{
		metric_set(METRIC_PROCESS_VIRTUAL, size * sysconf(_SC_PAGESIZE));
		metric_set(METRIC_PROCESS_RESIDENT, resident * sysconf(_SC_PAGESIZE));
	}
	fclose(file);
}

/* Open descriptors, without the one that reads their list. */
static void
process_measure_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct rlimit limit;
	int64_t count = -1;

	if (dir != NULL)
	{
		for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
			count += entry->d_name[0] != '.';
		closedir(dir);
		metric_set(METRIC_PROCESS_FDS, count);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		metric_set(METRIC_PROCESS_MAX_FDS, (int64_t) limit.rlim_cur);
}

/* Set all metrics of the process. */
void
process_measure(void)
{
	struct rusage usage;

	process_measure_memory();
	process_measure_files();
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		metric_set(METRIC_PROCESS_CPU,
				   ((int64_t) usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
					   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}
