/*
 * user.c
 *		Ceasing to be root.
 *
 * Root is good for a port below 1024, for more open files and for reading keys,
 * all of which comes first.  After that the daemon becomes the user of --user
 * for ever: all three user ids are that user's, the kernel takes the
 * capabilities away with them, and nothing that it might execute gives any back.
 *
 * Pure: neither libpq nor libmicrohttpd.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "log.h"
#include "user.h"

/* Find a user; NULL after an error has been logged. */
static const struct passwd *
user_find(const char *name)
{
	const struct passwd *user;

	errno = 0;
	user = getpwnam(name);
	if (user == NULL && errno != 0)
		log_error("--user: cannot look for user \"%s\": %s", name, strerror(errno));
	else if (user == NULL)
		log_error("--user: there is no user \"%s\"", name);
	return user;
}

/* Could it become this user?  If not, an error has been logged.  NULL: it stays who it is. */
bool
user_check(const char *name)
{
	const struct passwd *user;

	if (name == NULL)
	{
		if (geteuid() == 0)
			log_warning("running as root, without need: see --user");
		return true;
	}
	user = user_find(name);
	if (user == NULL)
		return false;
	if (user->pw_uid != 0 && geteuid() == 0)
		return true;
	log_error(user->pw_uid == 0 ? "--user: \"%s\" is root" : "--user: only root can become \"%s\"",
			  name);
	return false;
}

/* Become this user, for whom user_check was right; NULL: stay.  If it fails, an error has been logged. */
bool
user_become(const char *name)
{
	const struct passwd *user;

	if (name == NULL)
		return true;
	user = user_find(name);
	if (user == NULL)
		return false;
	if (initgroups(name, user->pw_gid) != 0 ||
		setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
		setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
	{
		log_error("--user: cannot become \"%s\": %s", name, strerror(errno));
		return false;
	}
	if (setuid(0) == 0 || seteuid(0) == 0)
	{
		log_error("--user: \"%s\" could become root again", name);
		return false;
	}
	/* where libpq looks for passwords and certificates */
	if (setenv("HOME", user->pw_dir, 1) != 0)
		log_fatal("setenv: %s", strerror(errno));
	return true;
}
