/* A landmark: where debug information says that this file is, the source's root is. */
void panic(void)
{
	for (;;)
		;
}

static int twice(int x)
{
	return x * 2;
}

int shared(int x)
{
	return twice(x);
}
