/* The worked example of policies/README.md does what the page says. */
#include "../test.h"

#include "profile_world.h"

static char *readme;

/* The text of the block that is fenced with ```<info>; NUL-terminated. */
static char *block(const char *info)
{
    char open[64];

    (void)snprintf(open, sizeof(open), "```%s\n", info);
    char *start = strstr(readme, open);
    assert_non_null(start);
    start += strlen(open);
    char *end = strstr(start, "```\n");
    assert_non_null(end);
    size_t len = (size_t)(end - start);
    char *text = malloc(len + 1);
    assert_non_null(text);
    memcpy(text, start, len);
    text[len] = '\0';
    return text;
}

static int load(void **state)
{
    struct pst_bytes bytes;
    struct pst_error error;

    (void)state;
    if (pst_file_read("policies/README.md", 1 << 20, &bytes, &error) != PST_OK)
        return -1;
    readme = malloc(bytes.len + 1);
    if (readme == NULL)
        return -1;
    memcpy(readme, bytes.ptr, bytes.len);
    readme[bytes.len] = '\0';
    free((void *)(uintptr_t)bytes.ptr);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    free(readme);
    return 0;
}

/* "METHOD HOST TARGET [BODY] -> LINE" */
static void check(const struct pst_profile *profile, char *request)
{
    char *line = strstr(request, " -> ");
    assert_non_null(line);
    *line = '\0';
    line += 4;
    char *host = strchr(request, ' ');
    assert_non_null(host);
    *host++ = '\0';
    char *path = strchr(host, ' ');
    assert_non_null(path);
    *path++ = '\0';
    char *body = strchr(path, ' ');
    if (body != NULL)
        *body++ = '\0';
    struct world_ask ask = {.method = request, .host = host, .path = path, .body = body};
    if (strstr(path, "%2F") != NULL)
        ask.oddities = PST_ODD_ENCODED_SLASH;
    assert_string_equal(world_line_of(profile, &ask), line);
}

static void test_the_worked_example(void **state)
{
    struct pst_error error = {0};
    char *text = block("yaml profile"), *requests = block("requests"), *save = NULL;
    unsigned count = 0;

    (void)state;
    struct pst_profile *profile = world_load_text(text, NULL, &error);
    if (profile == NULL)
        fail_msg("%s: %s", error.where, error.message);
    for (char *r = strtok_r(requests, "\n", &save); r != NULL;
         r = strtok_r(NULL, "\n", &save), count++)
        check(profile, r);
    assert_true(count >= 20);
    pst_profile_destroy(profile);
    free(text);
    free(requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_worked_example)};

    return cmocka_run_group_tests(tests, load, unload);
}
