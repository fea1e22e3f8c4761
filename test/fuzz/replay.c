/*
 * replay.c
 *		Runs a fuzz target on files, each a test: what a fuzzer found stays found.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1024 * 1024)

extern int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
main(int argc, char **argv)
{
	uint8_t *bytes = malloc(FILE_MAX);

	printf("1..%d\n", argc - 1);
	for (int i = 1; i < argc; i++)
	{
		FILE *file = fopen(argv[i], "rb");
		size_t len;

		if (file == NULL || bytes == NULL)
		{
			perror(argv[i]);
			return 1;
		}
		len = fread(bytes, 1, FILE_MAX, file);
		fclose(file);
		(void) LLVMFuzzerTestOneInput(bytes, len);
		printf("ok %d - %s\n", i, argv[i]);
		fflush(stdout);
	}
	free(bytes);
	return 0;
}
