/*
 * address.h - where a socket is: TCP over IPv4 or IPv6, or a unix socket; and sets of such places.
 *
 * Memory   Plain data, copied by value.
 */
#ifndef POSTERN_NET_ADDRESS_H
#define POSTERN_NET_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "postern/base/buf.h"
#include "postern/base/error.h"

#define PST_ADDRESS_TEXT_MAX 128 /* bytes that pst_address_text writes at most */

struct pst_address {
    socklen_t len; /* 0: nowhere */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un unix_;
    } sa;
};

/* A host that is no number, to be resolved. */
struct pst_host_port {
    struct pst_bytes host; /* within the parsed text, without brackets */
    uint16_t port;
    bool is_name; /* host has to be resolved; else *address is filled */
};

/* "127.0.0.1:80", "[::1]:80", "unix:/path", "name:80". Fills *address unless the host is a name.
 * PST_E_INVALID for anything else. */
PST_MUST_USE enum pst_status pst_address_parse(struct pst_bytes text, struct pst_address *address,
                                               struct pst_host_port *parts);
void pst_address_set_port(struct pst_address *address, uint16_t port);
uint16_t pst_address_port(const struct pst_address *address);
/* The host alone ("127.0.0.1", "::1", "unix"), and with the port ("[::1]:80", "unix:/path"). */
void pst_address_host(const struct pst_address *address, struct pst_buf *out);
void pst_address_text(const struct pst_address *address, struct pst_buf *out);

/* A network, or all unix sockets. */
struct pst_cidr {
    bool unix_;
    uint8_t bits; /* of the 128 of an IPv4-mapped or IPv6 address */
    uint8_t prefix[16];
};

/* "10.0.0.0/8", "::1/128", a single address, or "unix". */
PST_MUST_USE enum pst_status pst_cidr_parse(struct pst_bytes text, struct pst_cidr *out);
/* An IPv4 address and its IPv4-mapped form are the same. */
bool pst_cidr_holds(const struct pst_cidr *cidrs, uint32_t count,
                    const struct pst_address *address);

#endif
