/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/profile-impl.h"

static void decide_drive(ProfileMaker *m)
{
	Profile *p = m->p;

	if (!profile_is(p, PROFILE_CDROM, ""))
		profile_decide_as(p, PROFILE_CD_DRIVE, "sata", PROFILE_CDROM,
				  "There from the start, and every system has a driver for it.");
	else if (m->vm->cd == NULL)
		profile_decide(p, PROFILE_CD_DRIVE, "none", CAUSE_DEFAULT, "cdrom", "none",
			       "An empty drive is polled by guests.");
	else if (profile_is(p, PROFILE_OS, "windows"))
		profile_decide_as(p, PROFILE_CD_DRIVE, "sata", PROFILE_OS,
				  "Windows has a driver for it when it is installed.");
	else
		profile_decide(p, PROFILE_CD_DRIVE, "scsi", CAUSE_VM, "cdrom", "inserted",
			       "It comes and goes with its medium.");
}

/* Devices of q35's own bus can't be plugged in while it runs, those of pc's can. */
static void decide_port(ProfileMaker *m)
{
	Profile *p = m->p;
	g_autofree char *set = profile_setting_text(m, "platform.cdrom_port");

	if (!profile_is_q35(p))
		profile_decide_as(p, PROFILE_CD_PORT, "false", PROFILE_MACHINE,
				  "The bus of pc takes devices while it runs.");
	else if (set != NULL)
		profile_decide(p, PROFILE_CD_PORT, set, CAUSE_VM, "platform.cdrom_port", set, NULL);
	else if (profile_is(p, PROFILE_OS, "windows"))
		profile_decide_as(p, PROFILE_CD_PORT, "false", PROFILE_OS,
				  "Windows brings no driver for a drive that is plugged in.");
	else
		profile_decide(p, PROFILE_CD_PORT, "true", CAUSE_DEFAULT, "platform.cdrom_port", "auto",
			       "A CD drive can be plugged in while it runs; until then nothing polls one.");
}

void profile_decide_cd(ProfileMaker *m)
{
	decide_drive(m);
	decide_port(m);
}
