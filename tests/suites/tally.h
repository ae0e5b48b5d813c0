/*
 * tally.h - what became of the cases of one file: passed, failed, not applicable and why.
 *
 * A case is not applicable by its own `needs`, `release` or `mlflow`, or by a form that the suite
 * has no word for. Among the project's own cases the latter is a failure.
 */
#ifndef POSTERN_TESTS_SUITES_TALLY_H
#define POSTERN_TESTS_SUITES_TALLY_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TALLY_OWN     "tests/vectors"
#define TALLY_REASONS 64

struct tally {
    const char *file;
    bool own; /* the cases are the project's */
    unsigned passed, failed, skipped, reason_count;
    struct {
        char text[96];
        unsigned count;
    } reasons[TALLY_REASONS];
};

static inline struct tally tally_of(const char *dir, const char *file)
{
    char *here = realpath(TALLY_OWN, NULL), *there = realpath(dir, NULL);
    struct tally t = {.file = file, .own = here != NULL && there != NULL && strcmp(here, there) == 0};

    free(here);
    free(there);
    return t;
}

/* The file; NULL when the folder has none (quietly), or one that cannot be read (a failure). */
static inline json_t *tally_load(struct tally *t, const char *dir, size_t flags)
{
    char path[4096];
    json_error_t error;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, t->file);
    if (access(path, F_OK) != 0)
        return NULL;
    json_t *json = json_load_file(path, flags, &error);
    if (json_is_object(json))
        return json;
    printf("%s: FAIL line %d: %s\n", t->file, json == NULL ? error.line : 1,
           json == NULL ? error.text : "no object");
    t->failed++;
    json_decref(json);
    return NULL;
}

static inline void tally_skip(struct tally *t, unsigned count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline void tally_skip(struct tally *t, unsigned count, const char *format, ...)
{
    char text[sizeof(t->reasons[0].text)];
    unsigned i = 0;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    t->skipped += count;
    while (i < t->reason_count && strcmp(t->reasons[i].text, text) != 0)
        i++;
    if (i == TALLY_REASONS)
        i = TALLY_REASONS - 1;
    else if (i == t->reason_count)
        (void)snprintf(t->reasons[t->reason_count++].text, sizeof(text), "%s", text);
    t->reasons[i].count += count;
}

/* A case in a form that the suite has no word for. */
static inline void tally_strange(struct tally *t, const char *id, const char *what,
                                 const char *word)
{
    if (t->own) {
        printf("%s: FAIL %s: unknown form: %s %s\n", t->file, id, what, word);
        t->failed++;
    } else {
        tally_skip(t, 1, "unknown form: %s %s", what, word);
    }
}

static inline const char *tally_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

static inline bool tally_among(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* By its `needs`: true when the case cannot be run. Words of `now` are at hand, those of `later`
 * are not; any other is no word at all. */
static inline bool tally_needs(struct tally *t, const json_t *json, const char *id,
                               const char *const *now, const char *const *later)
{
    const json_t *needs = json_object_get(json, "needs");
    const char *lacks = NULL;

    for (size_t i = 0; i < json_array_size(needs); i++) {
        const char *word = json_string_value(json_array_get(needs, i));
        if (word == NULL || (!tally_among(word, now) && !tally_among(word, later))) {
            tally_strange(t, id, "needs", word == NULL ? "?" : word);
            return true;
        }
        if (lacks == NULL && !tally_among(word, now))
            lacks = word;
    }
    if (lacks != NULL)
        tally_skip(t, 1, "needs %s", lacks);
    return lacks != NULL;
}

/* The file's own line; run_vectors.py adds up those of one file. */
static inline void tally_close(const struct tally *t)
{
    if (t->passed + t->failed + t->skipped == 0)
        return;
    printf("%s: %u passed, %u failed, %u not applicable (", t->file, t->passed, t->failed,
           t->skipped);
    for (unsigned i = 0; i < t->reason_count; i++)
        printf("%s%s: %u", i == 0 ? "" : ", ", t->reasons[i].text, t->reasons[i].count);
    printf("%s)\n", t->reason_count == 0 ? "none" : "");
}

#endif
