/*
 * oddity.h - legal but unusual features of a request target that a route must opt in to.
 *
 * The canonicaliser (http/target) finds them, the route (policy/profile) accepts or refuses them:
 * rule H7 refuses each unless the route says otherwise.  What is never legal is refused before.
 */
#ifndef POSTERN_BASE_ODDITY_H
#define POSTERN_BASE_ODDITY_H

#define PST_ODD_ENCODED_SLASH   (1u << 0) /* %2F inside the path */
#define PST_ODD_TRAILING_SLASH  (1u << 1) /* the path ends in '/', and is not "/" alone */
#define PST_ODD_EMPTY_SEGMENT   (1u << 2) /* "//", or nothing before a ';' or beside a %2F */
#define PST_ODD_SEMICOLON       (1u << 3) /* ';' or %3B */
#define PST_ODD_ENCODED_PERCENT (1u << 4) /* %25: a second decoding would change it */
#define PST_ODD_DELIMITER       (1u << 5) /* %3F or %23: '?' or '#' in a name */

/* What a route refuses unless it opts in; the other bits are for routes that are stricter. */
#define PST_ODD_REFUSE                                                                             \
    (PST_ODD_ENCODED_SLASH | PST_ODD_TRAILING_SLASH | PST_ODD_EMPTY_SEGMENT | PST_ODD_SEMICOLON)

#endif
