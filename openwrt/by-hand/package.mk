# A package as a directory: `data` is what it installs, `control` what opkg is told.

define BuildPackage
$(eval $(Package/$(1)))

package:
	$(call Package/$(1)/install,$(STAGE)/data)
	$$(file >$(STAGE)/control/control,$$(CONTROL))
	$$(file >$(STAGE)/control/conffiles,$$(Package/$(1)/conffiles))
	$$(file >$(STAGE)/control/postinst,$$(call SCRIPT,postinst))
	$$(file >$(STAGE)/control/prerm,$$(call SCRIPT,prerm))
	$$(file >$(STAGE)/control/postinst-pkg,$$(Package/$(1)/postinst))
	$$(file >$(STAGE)/control/prerm-pkg,$$(Package/$(1)/prerm))
	find $(STAGE)/control -size -2c -delete
	chmod 0755 $(STAGE)/control/p*
endef

define CONTROL
Package: $(PKG_NAME)
Version: $(PKG_VERSION)-r$(PKG_RELEASE)
Depends: $(subst $(space),$(comma)$(space),$(strip libc $(patsubst +%,%,$(DEPENDS))))
License: $(PKG_LICENSE)
$(if $(PKG_LICENSE_FILES),LicenseFiles: $(PKG_LICENSE_FILES)
)$(if $(URL),URL: $(URL)
)Section: $(SECTION)
$(if $(USERID),Require-User: $(USERID)
)Architecture: $(or $(PKGARCH),$(ARCHITECTURE))
Maintainer: $(PKG_MAINTAINER)
Installed-Size: 0
Description: $(TITLE)
$(Package/$(PKG_NAME)/description)
endef

define SCRIPT
#!/bin/sh
[ "$${IPKG_NO_SCRIPT}" = 1 ] && exit 0
[ -s "$${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "$${IPKG_INSTROOT}/lib/functions.sh"
default_$(1) $$0 $$@
endef

comma := ,
space := $(subst ,, )
