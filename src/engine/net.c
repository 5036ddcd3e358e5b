/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/net.h"
#include "base/fd.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define MTU_USUAL 1500

/*
 * A question about an interface. The kernel is asked, and not /sys: that shows the network namespace that it
 * was mounted in, which need not be the daemon's.
 */
static bool ask(const char *name, unsigned long request, struct ifreq *io)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	g_strlcpy(io->ifr_name, name, sizeof io->ifr_name);
	return fd >= 0 && ioctl(fd, request, io) == 0;
}

static bool is_driven_by(const char *name, const char *driver)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq io = { .ifr_data = (void *)&info };

	return ask(name, SIOCETHTOOL, &io) && g_str_equal(info.driver, driver);
}

/* One request, one acknowledgement. Returns 0 or -errno. */
static int talk(struct nlmsghdr *request)
{
	char buf[8192];
	struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	ssize_t n;
	int r = 0;

	if (s == NULL)
		return -errno;
	request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	request->nlmsg_seq = 1;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(s, request, request->nlmsg_len) < 0) {
		r = -errno;
	} else {
		n = mnl_socket_recvfrom(s, buf, sizeof buf);
		if (n < 0 || mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(s), NULL, NULL) < 0)
			r = -errno;
	}
	mnl_socket_close(s);
	return r;
}

static unsigned mtu_of(const char *name)
{
	struct ifreq io = { 0 };

	return ask(name, SIOCGIFMTU, &io) ? (unsigned)io.ifr_mtu : MTU_USUAL;
}

static struct ifinfomsg *link_header(struct nlmsghdr *h, uint16_t type, unsigned index)
{
	struct ifinfomsg *m;

	h->nlmsg_type = type;
	m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->ifi_family = AF_UNSPEC;
	m->ifi_index = (int)index;
	return m;
}

/* rtnetlink(7): RTM_NEWLINK on an index that exists changes it. */
static int link_join(unsigned index, unsigned bridge, unsigned mtu)
{
	char buf[1024];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *m = link_header(h, RTM_NEWLINK, index);

	m->ifi_change = IFF_UP;
	m->ifi_flags = IFF_UP;
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	mnl_attr_put_u32(h, IFLA_MASTER, bridge);
	return talk(h);
}

/*
 * A bridge that was given no address has the lowest of its ports' (Linux, net/bridge/br_stp_if.c), which no
 * tap's may be: the host's neighbours send to the address that they know for up to a minute.
 */
static int link_take_high_address(const char *name, unsigned index)
{
	char buf[1024];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifreq io = { 0 };

	if (!ask(name, SIOCGIFHWADDR, &io))
		return -errno;
	link_header(h, RTM_NEWLINK, index);
	io.ifr_hwaddr.sa_data[0] = (char)0xfe;
	mnl_attr_put(h, IFLA_ADDRESS, ETH_ALEN, io.ifr_hwaddr.sa_data);
	return talk(h);
}

static int link_delete(unsigned index)
{
	char buf[1024];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	link_header(h, RTM_DELLINK, index);
	return talk(h);
}

/* A queue of the tap `name`, which is made when it is not there. -errno on failure. */
static int tap_queue(const char *name, bool multi)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						  (multi ? IFF_MULTI_QUEUE : 0)) };

	if (fd < 0)
		return -errno;
	g_strlcpy(ifr.ifr_name, name, sizeof ifr.ifr_name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	return fd_take(&fd);
}

static bool check_bridge(const char *bridge, GError **err)
{
	if (is_driven_by(bridge, "bridge"))
		return true;
	fail(err, ERR_NOT_FOUND, "the host has no bridge '%s'", bridge);
	return err_advise(err, "Make it (`ip link add %s type bridge`), or use the network user.", bridge);
}

static bool make_persistent(const char *name, bool multi, GError **err)
{
	_cleanup_close_ int fd = tap_queue(name, multi);

	if (fd < 0) {
		fail_errno(err, -fd, "can't make the tap '%s'", name);
		return err_advise(err,
				  "The daemon needs /dev/net/tun and CAP_NET_ADMIN for bridged networks.");
	}
	if (ioctl(fd, TUNSETPERSIST, 1) < 0)
		return fail_errno(err, errno, "can't keep the tap '%s'", name);
	return true;
}

bool net_tap_add(const char *name, const char *bridge, unsigned queues, GError **err)
{
	unsigned index;
	int r;

	if (!check_bridge(bridge, err))
		return false;
	if (if_nametoindex(name) != 0 && !is_driven_by(name, "tun"))
		return fail(err, ERR_INVALID, "the interface '%s' is there already and no tap", name);
	if (if_nametoindex(name) == 0 && !make_persistent(name, queues > 1, err))
		return false;
	index = if_nametoindex(name);
	r = link_take_high_address(name, index);
	if (r == 0)
		r = link_join(index, if_nametoindex(bridge), mtu_of(bridge));
	if (r < 0) {
		fail_errno(err, -r, "can't put '%s' on the bridge '%s'", name, bridge);
		net_tap_del(name, NULL);
		return false;
	}
	return true;
}

bool net_tap_del(const char *name, GError **err)
{
	unsigned index = if_nametoindex(name);
	int r;

	if (index == 0)
		return true;
	if (!is_driven_by(name, "tun"))
		return fail(err, ERR_INVALID, "the interface '%s' is no tap", name);
	r = link_delete(index);
	return r == 0 || r == -ENODEV || fail_errno(err, -r, "can't remove the tap '%s'", name);
}

static void close_all(int *fds, unsigned n)
{
	while (n-- > 0)
		close(fds[n]);
}

bool net_tap_open(const char *name, unsigned queues, int *ret_fds, GError **err)
{
	for (unsigned i = 0; i < queues; i++) {
		int fd = tap_queue(name, queues > 1);

		if (fd < 0) {
			close_all(ret_fds, i);
			return fail_errno(err, -fd, "can't open the tap '%s'", name);
		}
		ret_fds[i] = fd;
	}
	return true;
}

bool net_vhost_open(unsigned queues, int *ret_fds)
{
	for (unsigned i = 0; i < queues; i++) {
		ret_fds[i] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
		if (ret_fds[i] < 0) {
			close_all(ret_fds, i);
			return false;
		}
	}
	return true;
}

GStrv net_bridges(void)
{
	struct if_nameindex *all = if_nameindex();
	GStrvBuilder *b = g_strv_builder_new();
	GStrv names;

	for (struct if_nameindex *i = all; i != NULL && i->if_index != 0; i++)
		if (is_driven_by(i->if_name, "bridge"))
			g_strv_builder_add(b, i->if_name);
	if (all != NULL)
		if_freenameindex(all);
	names = g_strv_builder_end(b);
	g_strv_builder_unref(b);
	return names;
}
