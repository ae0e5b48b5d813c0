/* The migrations, as they stand in the files, inside the program. */
    .section .rodata
    .global pst_migration_0001_sqlite
    .global pst_migration_0001_sqlite_end
    .hidden pst_migration_0001_sqlite
    .hidden pst_migration_0001_sqlite_end
pst_migration_0001_sqlite:
    .incbin "src/store/migrations/0001.sqlite.sql"
pst_migration_0001_sqlite_end:
    .byte 0

    .section .note.GNU-stack, "", @progbits
