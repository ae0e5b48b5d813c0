/* Any bytes as a configuration file: read or refused with a message that names a place, nothing
 * else. */
#include <assert.h>

#include "postern/app/config.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct pst_config *config;
    struct pst_error error = {0};
    enum pst_status status = pst_config_load_text(PST_LIT("fuzz.yaml"), pst_bytes_of(data, size),
                                                  PST_LIT(""), &config, &error);

    if (status == PST_OK) {
        assert(config->listener_count > 0 && config->identity.issuers_count > 0);
        for (uint32_t l = 0; l < config->listener_count; l++)
            for (uint32_t m = 0; m < config->listeners[l].mount_count; m++)
                assert(config->listeners[l].kind != PST_DOOR_PROXY ||
                       config->listeners[l].mounts[m].upstream < config->upstream_count);
    } else {
        assert(config == NULL && error.message[0] != '\0');
    }
    pst_config_free(config);
    return 0;
}
