"""Programs whose loops over time are C: a step's elementwise operations as few passes over the rows of the batch.

rows.py       which operations go row by row
lower.py      the step in terms of them
simpler.py    what stands for operations that C does not have
plan.py       what the loops compute, what they keep, what is computed again on the way back
passes.py     a pass over the rows: its loops, and which has what
pass_text.py  the same as C
loops.py      a loop over time as a C function
emit.py       the program: C for the loops, NumPy for what surrounds them
call.py       the C as functions of arrays
build.py      the compiler, the libraries it made, and the matrix product of NumPy's BLAS
c_text.py     how C writes single operations; what stands before the loops
"""
