/* Functions of a report: one inlined into another, and one that needs two files. */
void panic(void);

static volatile int state;

static inline __attribute__((always_inline)) void check(int x)
{
	if (x == state)
		panic();
}

void dev_close(int x)
{
	state = x;
	check(x + 1);
	state = x + 2;
}

void _start(void)
{
	dev_close(1);
}
