/* Each rank says where it runs, when all have added up their numbers. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    char node[MPI_MAX_PROCESSOR_NAME];
    int rank, size, length, sum;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(node, &length);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("hello from rank %d of %d on %s; the sum of all ranks is %d\n", rank, size, node, sum);
    return MPI_Finalize();
}
