/*
 * shmem.h
 *		Asking for shared memory, for all modules that share something.
 */
#ifndef PEV_SHMEM_H
#define PEV_SHMEM_H

extern void shmem_init(void);

#endif /* PEV_SHMEM_H */
