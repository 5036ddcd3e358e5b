/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/flat.h"

#include <string.h>

#define SIGNATURE "makedumpfile"
#define TYPE_AT 16
#define END UINT64_MAX

static bool fail_stream(const char *what, GError **err)
{
	return fail(err, ERR_QEMU, "QEMU wrote a dump that makes no sense: %s", what);
}

static uint64_t number_at(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* Fill buf up to `want`; true when it is there. */
static bool gather(struct flat *f, size_t want, const uint8_t **bytes, size_t *len)
{
	size_t n = MIN(want - f->have, *len);

	memcpy(f->buf + f->have, *bytes, n);
	f->have += n;
	*bytes += n;
	*len -= n;
	return f->have == want;
}

static bool take_head(struct flat *f, GError **err)
{
	if (memcmp(f->buf, SIGNATURE, sizeof SIGNATURE) != 0 || number_at(f->buf + TYPE_AT) != 1)
		return fail_stream("its header is not the one of a compressed dump", err);
	f->state = FLAT_AT_RECORD;
	f->have = 0;
	return true;
}

static bool take_record(struct flat *f, GError **err)
{
	f->at = number_at(f->buf);
	f->left = number_at(f->buf + 8);
	f->have = 0;
	if (f->at == END && f->left == END) {
		f->state = FLAT_ENDED;
		return true;
	}
	if (f->at > f->max || f->left > f->max - f->at)
		return fail_stream("a part of it lies behind its end", err);
	f->state = f->left > 0 ? FLAT_IN_DATA : FLAT_AT_RECORD;
	return true;
}

static bool take_data(struct flat *f, const uint8_t **bytes, size_t *len, FlatWrite write, void *data,
		      GError **err)
{
	size_t n = (size_t)MIN(f->left, *len);

	if (!write(f->at, *bytes, n, data, err))
		return false;
	f->at += n;
	f->left -= n;
	*bytes += n;
	*len -= n;
	if (f->left == 0)
		f->state = FLAT_AT_RECORD;
	return true;
}

static bool take_some(struct flat *f, const uint8_t **bytes, size_t *len, FlatWrite write, void *data,
		      GError **err)
{
	switch (f->state) {
	case FLAT_AT_HEAD:
		return !gather(f, FLAT_HEAD, bytes, len) || take_head(f, err);
	case FLAT_AT_RECORD:
		return !gather(f, FLAT_RECORD, bytes, len) || take_record(f, err);
	case FLAT_IN_DATA:
		return take_data(f, bytes, len, write, data, err);
	case FLAT_ENDED:
		return fail_stream("something stands behind its end", err);
	}
	g_assert_not_reached();
}

bool flat_feed(struct flat *f, const uint8_t *bytes, size_t len, FlatWrite write, void *data, GError **err)
{
	while (len > 0)
		if (!take_some(f, &bytes, &len, write, data, err))
			return false;
	return true;
}
