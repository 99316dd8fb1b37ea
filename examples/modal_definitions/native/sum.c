/* Compiled when the image is built. */
long sum_of_squares(const int *numbers, int count) {
    long sum = 0;
    for (int index = 0; index < count; index++)
        sum += (long)numbers[index] * numbers[index];
    return sum;
}
