/*
 * fuzz_profile.c - requests against a profile that uses every part of the language, and texts that
 * claim to be profiles.
 *
 * Input: 'P' and JSON: compile it. Else: method SP target SP header-value SP body, judged by the
 * profile below. Whatever comes, a request that is not refused asks something, names a valid
 * workspace, and a known id is never empty; the same request twice asks the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../unit/policy/json_tree.h"
#include "postern/policy/profile.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "{'profile':'f','combining':'most-specific','both_cases':true,'compare':true,'head_as_get':"
    "true,"
    "'refuse_traversal':true,'ids':'path','ignored_keys':['api_key'],"
    "'workspace':{'headers':['X-Ws'],'default':'w1','name':{'chars':'a-z0-9-','edges':'a-z0-9','"
    "max':20}},"
    "'classes':{'digits':'0-9','word':'A-Za-z0-9_'},"
    "'entities':{'Role':{'resource':'roles','ids':'integer'},'Pipeline':{'resource':'pipelines','"
    "pipeline':'self'},"
    "'Block':{'resource':'blocks','pipeline':'parent'},'experiment':{'ids':'integer'}},"
    "'shapes':{'child':{'params':['t','op'],'all':['experiment:$e detail','$t:* $op else "
    "experiment:$e']}},"
    "'inner':{'art':[{'path':['/{e:digits}/{r}/a/{f...}','/w/{workspace}/{e:digits}/{r}/a/"
    "{f...}'],'need':'child run $op'},"
    "{'path':'/{f...}','need':'admin'}]},"
    "'routes':["
    "{'path':'/w/{workspace}/{entity}/{id}/{more...}','methods':{'GET':'detail','PUT':'update'},"
    "'ids':{'id':{'from':'path id','form':'uuid'},'more':{'from':'path "
    "more','split':true,'missing':'skip','form':'uuid'},"
    "'q':{'from':'query pipeline_uuid','form':'uuid-only','missing':'skip'}},"
    "'need':['$entity:$id $op','$entity:$more $op','$entity:$q $op']},"
    "{'under':['/api'],'accept':['encoded-slash'],'preflight':'any','routes':["
    "{'path':'/{r:word}/"
    "{id}','methods':{'GET':'detail','PUT':'update'},'entity':'r','need':'$r:$id "
    "$op','attributes':true},"
    "{'path':'/{r:word}/{id}/{c:word}','methods':{'GET':'list','POST':'create'},'entity':'c',"
    "'parent':{'entity':'r','id':'id'},'need':'$c $op','attributes':true},"
    "{'path':'/{r:word}/{id...}','methods':{'GET':'detail'},'entity':'r','need':'$r:$id $op'}]},"
    "{'POST':'/b','ids':{'e':'body a.es[].id|e','u':{'from':'body "
    "u_name','missing':'skip','empty':'absent'}},"
    "'need':['child run update','self $u or admin','s:$u!/x use']},"
    "{'POST':'/l','ids':{'e':{'from':'body "
    "a[].x|a[].y|b[].c[].x','missing':'admin','empty':'absent'},"
    "'f':{'from':'body a[].f','missing':'unknown'},'g':{'from':'body b[].g','missing':'skip'}},"
    "'need':['experiment:$e detail','s update or s:$f use','s update or s:$g use']},"
    "{'GET':'/b','ids':{'e':'params es[]'},'need':'filter experiment:$e detail'},"
    "{'methods':['GET','PUT'],'path':'/art/{p...}','operations':{'GET':'detail','PUT':'update'},"
    "'ids':{'p':{'from':'path p','form':'artifact'}},'inner':{'value':'p','paths':'art'}},"
    "{'POST':'/g/{n}:go','lookup':'x','need':'a|b:$x use else c:$n'},"
    "{'GET':'/p','public':true},{'GET':'/u','refuse':'upgrade'}]}";

static struct pst_profile *profile;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct pst_tree tree;
    struct pst_error error = {0};

    (void)argc;
    (void)argv;
    if (!json_tree_quoted(&tree, text) ||
        pst_profile_compile(&tree, NULL, NULL, &profile, &error) != PST_OK) {
        fprintf(stderr, "%s: %s\n", error.where, error.message);
        abort();
    }
    pst_tree_fini(&tree);
    return 0;
}

static void compile(const char *data, size_t size)
{
    struct pst_tree tree;
    struct pst_profile *other;
    struct pst_error error;

    if (json_tree_load(&tree, data, size) &&
        pst_profile_compile(&tree, NULL, NULL, &other, &error) == PST_OK) {
        struct pst_request request = {.method = PST_LIT("GET"), .path = PST_LIT("/a/b")};
        struct pst_routed routed;
        pst_profile_route(other, &request, &routed);
        pst_profile_destroy(other);
    }
    pst_tree_fini(&tree);
}

static struct pst_bytes take(struct pst_bytes *rest)
{
    size_t at = pst_bytes_find(*rest, ' ');
    struct pst_bytes word = pst_bytes_of(rest->ptr, at);

    *rest = pst_bytes_from(*rest, at < rest->len ? at + 1 : at);
    return word;
}

static void must(bool good)
{
    if (!good)
        abort();
}

static void check(const struct pst_extracted *got)
{
    if (got->refuse != PST_R_INTERNAL)
        return;
    must(got->requirement_count > 0);
    must(got->workspace.len > 0 && got->workspace.len <= 20);
    must(!got->requirements[got->requirement_count - 1].or_next);
    for (uint32_t i = 0; i < got->requirement_count; i++) {
        const struct pst_requirement *r = &got->requirements[i];
        must(r->key_count <= PST_KEYS_MAX && (r->need == PST_NEED_GRANT) == (r->key_count > 0));
        for (uint32_t k = 0; k < r->key_count; k++)
            must(r->keys[k].entity.len > 0 &&
                 (r->keys[k].id_state != PST_ID_KNOWN || r->keys[k].id.len > 0) &&
                 r->keys[k].op != PST_OP_NONE);
    }
}

static bool same(const struct pst_extracted *a, const struct pst_extracted *b)
{
    if (a->refuse != b->refuse || a->requirement_count != b->requirement_count ||
        !pst_bytes_equal(a->workspace, b->workspace))
        return false;
    for (uint32_t i = 0; i < a->requirement_count; i++)
        for (uint32_t k = 0; k < a->requirements[i].key_count; k++)
            if (!pst_bytes_equal(a->requirements[i].keys[k].id, b->requirements[i].keys[k].id))
                return false;
    return true;
}

static void ask(struct pst_bytes rest)
{
    struct pst_request request = {.method = take(&rest)};
    struct pst_bytes target = take(&rest), header = take(&rest);
    size_t mark = pst_bytes_find(target, '?');
    struct pst_field field = {PST_LIT("x_ws"), header};
    struct pst_routed routed, again;
    struct pst_extracted got, twice;
    struct pst_arena arena;

    if (target.len == 0 || target.ptr[0] != '/')
        return;
    request.path = pst_bytes_of(target.ptr, mark);
    request.query = mark < target.len ? pst_bytes_from(target, mark + 1) : pst_bytes_of("", 0);
    request.fields = &field;
    request.field_count = 1;
    request.has_body = request.body_given = rest.len > 0;
    request.body = rest;
    pst_profile_route(profile, &request, &routed);
    pst_profile_route(profile, &request, &again);
    must(routed.route == again.route && routed.refuse == again.refuse);
    must((routed.refuse == PST_R_INTERNAL) == (routed.route != NULL) ||
         routed.refuse != PST_R_INTERNAL);
    if (routed.refuse != PST_R_INTERNAL || routed.is_public || routed.preflight)
        return;
    pst_arena_init(&arena, 4096, 1 << 20);
    pst_profile_extract(profile, &routed, &request, &arena, &got);
    check(&got);
    pst_profile_extract(profile, &routed, &request, &arena, &twice);
    must(twice.refuse == PST_R_OVERLOAD || same(&got, &twice));
    pst_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'P')
        compile((const char *)data + 1, size - 1);
    else
        ask(pst_bytes_of(data, size));
    return 0;
}
