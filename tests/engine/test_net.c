/* SPDX-License-Identifier: Apache-2.0 */
/* Taps and bridges, real ones, in a network namespace of the test's own. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/net.h"
#include "own_mounts.h"

#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>

#define DEADLINE UINT64_C(120000000)
#define VNET_HEADER 10
/* For experiments, by IEEE 802: no other frame on the bridge has it. */
#define ETHERTYPE 0x88b5

static void ip(const char *words)
{
	g_autofree char *line = g_strconcat("ip ", words, NULL);
	g_autoptr(GError) e = NULL;
	int status;

	g_spawn_command_line_sync(line, NULL, NULL, &status, &e);
	g_assert_no_error(e);
	g_assert_cmpint(status, ==, 0);
}

/* /sys/class/net shows the namespace that /sys was mounted in. NULL when there is one now. */
static const char *leave_the_hosts_network(void)
{
	g_autofree char *program = g_find_program_in_path("ip");

	if (program == NULL)
		return "there is no program ip";
	if (!own_mounts(CLONE_NEWNET))
		return "needs the right to make a network namespace";
	if (mount("sysfs", "/sys", "sysfs", 0, NULL) < 0)
		return "needs the right to mount /sys";
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return "there is no /dev/net/tun";
	return NULL;
}

static bool rig_up(void)
{
	static bool tried;
	static const char *why;

	if (!tried)
		why = leave_the_hosts_network();
	tried = true;
	if (why != NULL)
		g_test_skip(why);
	else
		ip("link add br0 type bridge");
	return why == NULL;
}

static void rig_down(void)
{
	ip("link del br0");
}

static char *attribute(const char *name, const char *member)
{
	g_autofree char *path = g_strdup_printf("/sys/class/net/%s/%s", name, member);

	return g_strstrip(file_read_virtual(path, 64, NULL, NULL));
}

static bool is_port(const char *bridge, const char *tap)
{
	g_autofree char *path = g_strdup_printf("/sys/class/net/%s/brif/%s", bridge, tap);

	return access(path, F_OK) == 0;
}

static void added(const char *tap, const char *bridge, unsigned queues)
{
	g_autoptr(GError) e = NULL;

	net_tap_add(tap, bridge, queues, &e);
	g_assert_no_error(e);
}

static void deleted(const char *tap)
{
	g_autoptr(GError) e = NULL;

	net_tap_del(tap, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(if_nametoindex(tap), ==, 0);
}

static void opened(const char *tap, unsigned queues, int *fds)
{
	g_autoptr(GError) e = NULL;

	net_tap_open(tap, queues, fds, &e);
	g_assert_no_error(e);
}

static void test_a_tap_is_up_on_its_bridge_with_its_mtu(void)
{
	g_autofree char *mtu = NULL, *flags = NULL;

	if (!rig_up())
		return;
	ip("link set br0 mtu 4000");
	added("tap1", "br0", 1);
	mtu = attribute("tap1", "mtu");
	flags = attribute("tap1", "flags");
	g_assert_true(is_port("br0", "tap1"));
	g_assert_cmpstr(mtu, ==, "4000");
	g_assert_true(g_ascii_strtoull(flags, NULL, 16) & IFF_UP);
	deleted("tap1");
	rig_down();
}

/* Else the host could not be reached by who knows the bridge's address, whenever a guest starts. */
static void test_the_bridge_keeps_its_address(void)
{
	g_autofree char *before = NULL, *after = NULL, *own = NULL;

	if (!rig_up())
		return;
	ip("link add eth0 address fa:ff:ff:ff:ff:ff type veth peer name far");
	ip("link set eth0 master br0");
	before = attribute("br0", "address");
	g_assert_cmpstr(before, ==, "fa:ff:ff:ff:ff:ff");
	added("tap1", "br0", 1);
	after = attribute("br0", "address");
	own = attribute("tap1", "address");
	g_assert_cmpstr(after, ==, before);
	g_assert_true(g_str_has_prefix(own, "fe:"));
	deleted("tap1");
	ip("link del eth0");
	rig_down();
}

static void test_done_twice_is_done_once(void)
{
	unsigned index;

	if (!rig_up())
		return;
	added("tap1", "br0", 2);
	index = if_nametoindex("tap1");
	added("tap1", "br0", 2);
	g_assert_cmpuint(if_nametoindex("tap1"), ==, index);
	deleted("tap1");
	deleted("tap1");
	rig_down();
}

static void test_a_tap_moves_to_the_bridge_it_is_asked_on(void)
{
	if (!rig_up())
		return;
	ip("link add br1 type bridge");
	added("tap1", "br0", 1);
	added("tap1", "br1", 1);
	g_assert_true(is_port("br1", "tap1") && !is_port("br0", "tap1"));
	deleted("tap1");
	ip("link del br1");
	rig_down();
}

static void test_each_queue_opens_and_the_tap_outlives_them(void)
{
	int fds[4];

	if (!rig_up())
		return;
	added("tap1", "br0", 4);
	opened("tap1", 4, fds);
	for (int i = 0; i < 4; i++)
		g_assert_cmpint(close(fds[i]), ==, 0);
	g_assert_true(is_port("br0", "tap1"));
	opened("tap1", 4, fds);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	deleted("tap1");
	rig_down();
}

static void make_frame(uint8_t *frame, size_t size)
{
	static const uint8_t from[] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

	memset(frame, 0, size);
	memset(frame + VNET_HEADER, 0xff, 6);
	memcpy(frame + VNET_HEADER + 6, from, sizeof from);
	frame[VNET_HEADER + 12] = ETHERTYPE >> 8;
	frame[VNET_HEADER + 13] = ETHERTYPE & 0xff;
	memcpy(frame + VNET_HEADER + 14, "hello", 5);
}

/*
 * Sent again until it comes: the kernel notices in its own time that a tap is
 * open, and the bridge forwards from then on. Others send too: the kernel
 * greets its neighbours.
 */
static bool passes(int from, int to, const uint8_t *frame, size_t size)
{
	uint64_t end = time_monotonic() + DEADLINE;

	while (time_monotonic() < end) {
		struct pollfd p = { .fd = to, .events = POLLIN };
		uint8_t got[2048];
		ssize_t n;

		g_assert_cmpint(write(from, frame, size), ==, (ssize_t)size);
		if (poll(&p, 1, 100) != 1)
			continue;
		n = read(to, got, sizeof got);
		if (n == (ssize_t)size &&
		    memcmp(got + VNET_HEADER, frame + VNET_HEADER, size - VNET_HEADER) == 0)
			return true;
	}
	return false;
}

static void test_what_one_guest_sends_another_receives(void)
{
	uint8_t frame[VNET_HEADER + 64];
	int a, b;

	if (!rig_up())
		return;
	ip("link set br0 up");
	added("tap1", "br0", 1);
	added("tap2", "br0", 1);
	opened("tap1", 1, &a);
	opened("tap2", 1, &b);
	make_frame(frame, sizeof frame);
	g_assert_true(passes(a, b, frame, sizeof frame));
	close(a);
	close(b);
	deleted("tap1");
	deleted("tap2");
	rig_down();
}

static void test_without_the_bridge_no_tap_is_left(void)
{
	g_autoptr(GError) e = NULL;

	if (!rig_up())
		return;
	g_assert_false(net_tap_add("tap1", "br7", 1, &e));
	g_assert_cmpint(err_code(e), ==, ERR_NOT_FOUND);
	g_assert_nonnull(strstr(err_advice(e), "br7"));
	g_assert_cmpuint(if_nametoindex("tap1"), ==, 0);
	rig_down();
}

static void test_an_interface_of_another_kind_is_left_alone(void)
{
	g_autoptr(GError) on_add = NULL, on_del = NULL;

	if (!rig_up())
		return;
	g_assert_false(net_tap_add("lo", "br0", 1, &on_add));
	g_assert_cmpint(err_code(on_add), ==, ERR_INVALID);
	g_assert_false(net_tap_del("br0", &on_del));
	g_assert_cmpint(err_code(on_del), ==, ERR_INVALID);
	g_assert_cmpuint(if_nametoindex("br0"), !=, 0);
	g_assert_false(is_port("br0", "lo"));
	rig_down();
}

static void test_bridges_are_listed_and_nothing_else(void)
{
	g_auto(GStrv) names = NULL;

	if (!rig_up())
		return;
	added("tap1", "br0", 1);
	names = net_bridges();
	g_assert_cmpuint(g_strv_length(names), ==, 1);
	g_assert_cmpstr(names[0], ==, "br0");
	deleted("tap1");
	rig_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/net/" #name, test_##name)
	T(a_tap_is_up_on_its_bridge_with_its_mtu);
	T(the_bridge_keeps_its_address);
	T(done_twice_is_done_once);
	T(a_tap_moves_to_the_bridge_it_is_asked_on);
	T(each_queue_opens_and_the_tap_outlives_them);
	T(what_one_guest_sends_another_receives);
	T(without_the_bridge_no_tap_is_left);
	T(an_interface_of_another_kind_is_left_alone);
	T(bridges_are_listed_and_nothing_else);
#undef T
	return g_test_run();
}
