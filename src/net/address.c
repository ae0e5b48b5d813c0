#include "postern/net/address.h"

#include <arpa/inet.h>
#include <stddef.h>

static enum pst_status parse_unix(struct pst_bytes path, struct pst_address *address)
{
    if (path.len == 0 || path.len >= sizeof(address->sa.unix_.sun_path) ||
        pst_bytes_find(path, '\0') != path.len)
        return PST_E_INVALID;
    address->sa.unix_.sun_family = AF_UNIX;
    memcpy(address->sa.unix_.sun_path, path.ptr, path.len);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return PST_OK;
}

/* Splits at the last colon; a host in brackets may hold colons, another may not. */
static bool split_host_port(struct pst_bytes text, struct pst_host_port *parts)
{
    size_t colon = text.len;
    uint64_t port;

    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2 || !pst_bytes_u63(pst_bytes_from(text, colon), &port) || port > 65535)
        return false;
    parts->port = (uint16_t)port;
    parts->host = pst_bytes_of(text.ptr, colon - 1);
    if (parts->host.ptr[0] == '[') {
        if (parts->host.len < 4 || parts->host.ptr[parts->host.len - 1] != ']')
            return false;
        parts->host = pst_bytes_of(parts->host.ptr + 1, parts->host.len - 2);
        return true;
    }
    return pst_bytes_find(parts->host, ':') == parts->host.len;
}

static bool is_host_name(struct pst_bytes host)
{
    if (host.len == 0 || host.len > 253)
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = pst_lower(host.ptr[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return true;
}

static bool parse_ip(struct pst_bytes host, struct pst_address *address)
{
    char text[INET6_ADDRSTRLEN];

    if (host.len == 0 || host.len >= sizeof(text))
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &address->sa.v4.sin_addr) == 1) {
        address->sa.v4.sin_family = AF_INET;
        address->len = sizeof(address->sa.v4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &address->sa.v6.sin6_addr) == 1) {
        address->sa.v6.sin6_family = AF_INET6;
        address->len = sizeof(address->sa.v6);
        return true;
    }
    return false;
}

enum pst_status pst_address_parse(struct pst_bytes text, struct pst_address *address,
                                  struct pst_host_port *parts)
{
    *address = (struct pst_address){0};
    *parts = (struct pst_host_port){0};
    if (pst_bytes_starts(text, PST_LIT("unix:")))
        return parse_unix(pst_bytes_from(text, 5), address);
    if (!split_host_port(text, parts))
        return PST_E_INVALID;
    if (parse_ip(parts->host, address)) {
        pst_address_set_port(address, parts->port);
        return PST_OK;
    }
    *address = (struct pst_address){0};
    parts->is_name = true;
    return text.ptr[0] != '[' && is_host_name(parts->host) ? PST_OK : PST_E_INVALID;
}

void pst_address_set_port(struct pst_address *address, uint16_t port)
{
    if (address->sa.any.sa_family == AF_INET)
        address->sa.v4.sin_port = htons(port);
    else if (address->sa.any.sa_family == AF_INET6)
        address->sa.v6.sin6_port = htons(port);
}

uint16_t pst_address_port(const struct pst_address *address)
{
    if (address->sa.any.sa_family == AF_INET)
        return ntohs(address->sa.v4.sin_port);
    if (address->sa.any.sa_family == AF_INET6)
        return ntohs(address->sa.v6.sin6_port);
    return 0;
}

static struct pst_bytes text_of(const char *text, size_t cap)
{
    const char *end = memchr(text, '\0', cap);

    return pst_bytes_of(text, end == NULL ? cap : (size_t)(end - text));
}

void pst_address_host(const struct pst_address *address, struct pst_buf *out)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sa.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->sa.v4.sin_addr, text, sizeof(text));
    } else if (address->sa.any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&address->sa.v6.sin6_addr))
            inet_ntop(AF_INET, address->sa.v6.sin6_addr.s6_addr + 12, text, sizeof(text));
        else
            inet_ntop(AF_INET6, &address->sa.v6.sin6_addr, text, sizeof(text));
    } else {
        pst_buf_lit(out, "unix");
        return;
    }
    pst_buf_put(out, text_of(text, sizeof(text)));
}

void pst_address_text(const struct pst_address *address, struct pst_buf *out)
{
    if (address->sa.any.sa_family == AF_UNIX) {
        pst_buf_lit(out, "unix:");
        if (address->len > offsetof(struct sockaddr_un, sun_path))
            pst_buf_put(out,
                        text_of(address->sa.unix_.sun_path, sizeof(address->sa.unix_.sun_path)));
        return;
    }
    bool brackets =
        address->sa.any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&address->sa.v6.sin6_addr);
    if (brackets)
        pst_buf_char(out, '[');
    pst_address_host(address, out);
    if (brackets)
        pst_buf_char(out, ']');
    pst_buf_char(out, ':');
    pst_buf_u64(out, pst_address_port(address));
}

/* Every IP address as the 16 bytes of an IPv6 one. */
static bool to_mapped(const struct pst_address *address, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (address->sa.any.sa_family == AF_INET) {
        memcpy(out, mapped, sizeof(mapped));
        memcpy(out + 12, &address->sa.v4.sin_addr, 4);
        return true;
    }
    if (address->sa.any.sa_family == AF_INET6) {
        memcpy(out, &address->sa.v6.sin6_addr, 16);
        return true;
    }
    return false;
}

enum pst_status pst_cidr_parse(struct pst_bytes text, struct pst_cidr *out)
{
    struct pst_address address = {0};
    size_t slash = pst_bytes_find(text, '/');
    uint64_t bits = 0;

    *out = (struct pst_cidr){0};
    if (pst_bytes_equal(text, PST_LIT("unix"))) {
        out->unix_ = true;
        return PST_OK;
    }
    if (!parse_ip(pst_bytes_of(text.ptr, slash), &address) || !to_mapped(&address, out->prefix))
        return PST_E_INVALID;
    uint64_t width = address.sa.any.sa_family == AF_INET ? 32 : 128;
    bits = width;
    if (slash < text.len &&
        (!pst_bytes_u63(pst_bytes_from(text, slash + 1), &bits) || bits > width))
        return PST_E_INVALID;
    out->bits = (uint8_t)(bits + (128 - width));
    return PST_OK;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool pst_cidr_holds(const struct pst_cidr *cidrs, uint32_t count, const struct pst_address *address)
{
    uint8_t ip[16];
    bool is_ip = to_mapped(address, ip);

    for (uint32_t i = 0; i < count; i++) {
        if (cidrs[i].unix_) {
            if (address->sa.any.sa_family == AF_UNIX)
                return true;
        } else if (is_ip && same_prefix(ip, cidrs[i].prefix, cidrs[i].bits)) {
            return true;
        }
    }
    return false;
}
